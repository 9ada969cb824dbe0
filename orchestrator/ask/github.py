"""The public keys that GitHub has for users whom an appliance.toml names.

A container fetches them (`run/github_keys.py`). They lie beside run.sh's lists: no agent may read
them.
"""

import pathlib

from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.ask.uploads import list_folder
from orchestrator.blueprint.marks import GITHUB

SERVER = "https://github.com"


def users(request: Demo | Build) -> tuple[str, ...]:
    """Return the users of GitHub whose keys get into the image of `request`."""
    if not request.appliance or (isinstance(request, Demo) and request.ssh_key):
        return ()
    from orchestrator.blueprint.nix import key_sources

    return users_of(key_sources(request.appliance.blueprint))


def users_of(sources: tuple[str, ...]) -> tuple[str, ...]:
    """Return the users of GitHub among the `sources` of keys."""
    return tuple(one.removeprefix(GITHUB) for one in sources if one.startswith(GITHUB))


def keys_of(who: Caller, user: str) -> pathlib.Path:
    """Return the file of the keys of GitHub's `user`, once they are fetched."""
    return list_folder(who) / "github-keys" / user


def address(user: str) -> str:
    """Return where GitHub has the keys of `user`."""
    return f"{SERVER}/{user}.keys"
