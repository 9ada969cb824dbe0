"""Parses what names a folder on the caller's host, or something that Nix fetches."""

import dataclasses
import urllib.parse

from orchestrator.ask.parser import caller_path
from orchestrator.ask.request import Caller, Place
from orchestrator.shared.errors import UsageError

#: Parameters of a flake reference to a folder that change nothing in the folder's files.
WITHOUT_EFFECT = frozenset({"shallow", "allRefs"})


#: Beginnings of a folder's URL; the host of the second one is empty.
SCHEMES = ("path:", "git+file://", "git+file:")


def place(text: str, who: Caller) -> Place:
    """Parse a path of the caller's host, or a reference for Nix (`github:…`, `https://…`)."""
    for scheme in SCHEMES:
        if text.startswith(scheme):
            return caller_path(urllib.parse.unquote(text.removeprefix(scheme)), who)
    if text.startswith("file:"):
        raise UsageError(f"{text}: a file URL is not supported", hint="name the folder itself")
    return text if ":" in text else caller_path(text, who)


@dataclasses.dataclass(frozen=True)
class FlakePlace:
    """Where a flake is: a place, the folder in it (`?dir=`), and whether with submodules.

    A reference that Nix fetches stays whole: then nothing else is set.
    """

    place: Place
    folder: str = ""
    submodules: bool = False


def flake_place(text: str, who: Caller) -> FlakePlace:
    """Parse a flake reference without `#NAME`; raises `UsageError`."""
    path, _, query = text.partition("?")
    found = place(path, who)
    if isinstance(found, str):
        return FlakePlace(text)
    folder, submodules = "", False
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name == "dir":
            folder = value.strip("/")
        elif name == "submodules":
            submodules = value == "1"
        elif name in {"ref", "rev"}:
            raise UsageError(
                f"{text}: a folder is sent with its files as they are, not as of another commit",
                hint=f"git worktree add FOLDER {value} has that commit's files",
            )
        elif name not in WITHOUT_EFFECT:
            raise UsageError(
                f"{text}: ?{name}= is not supported for a folder",
                hint="only ?dir= and ?submodules=1 are",
            )
    if ".." in folder.split("/"):
        raise UsageError(f"{text}: ?dir= must not lead out of the folder", hint="omit `..`")
    return FlakePlace(found, folder, submodules)


def search_path(text: str, who: Caller) -> tuple[str, Place]:
    """Parse NAME=PATH, or a PATH for all names (then NAME is ""), as nix-build's -I."""
    name, equals, value = text.partition("=")
    return (name, place(value, who)) if equals else ("", caller_path(text, who))
