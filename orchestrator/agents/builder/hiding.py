"""Hides secrets in Nix' words: Nix tells addresses with their passwords, and quotes wrong lines."""

import re
from collections.abc import Callable, Iterator

from orchestrator.shared.text import public

#: What stands in a secret's place.
HIDDEN = "..."

#: Settings whose words NAME=VALUE have secrets as values: tokens, and variables for fetching.
SETTINGS = frozenset({"access-tokens", "impure-env"})

#: Number of letters from which such a value is taken for a secret.
TOKEN = 6


def hider(lines: str) -> Callable[[str], str]:
    """Return a function that hides the secrets of nix.conf's `lines`, and passwords in any URL."""
    found = {secret for line in lines.splitlines() for secret in _secrets(line)}
    if not found:
        return public
    words = re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True))))
    return lambda text: public(words.sub(HIDDEN, text))


def _secrets(line: str) -> Iterator[str]:
    """Return the secrets in a line of nix.conf: of each URL NAME:PASSWORD, and values.

    Nix quotes a line that is no setting, whatever it was meant to be: each value in it counts.
    """
    words = line.partition("#")[0].split()
    valued = words[1:2] != ["="] or words[0].removeprefix("extra-") in SETTINGS
    for word in words:
        _scheme, is_url, rest = word.partition("://")
        if is_url:
            user = rest.rpartition("@")[0]
            if ":" in user:
                yield user
        elif valued:
            # GitLab's tokens have their kind before them: HOST=PAT:TOKEN.
            value = word.partition("=")[2].rpartition(":")[2]
            if len(value) >= TOKEN:
                yield value
