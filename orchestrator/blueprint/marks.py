"""Names and beginnings of words in an appliance.toml, for modules that need not know its types."""

import re

#: The name of the file that run.sh takes from the working directory.
APPLIANCE = "appliance.toml"

#: Beginnings of a value that is a path, where it could be something else: a key, a reference.
PATHS = ("/", "~/", "./", "../")

#: A key of TOML that needs no quotes.
BARE = re.compile("[A-Za-z0-9_-]+")

#: Beginning of a key that means all public keys of a user of GitHub.
GITHUB = "github:"
