"""Locks a flake before it is evaluated, and records it with its inputs."""

import dataclasses
import datetime
import pathlib
import typing
import urllib.parse

from orchestrator.agents.builder.nix import Nix, answer
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command
from orchestrator.shared.artifact import Material
from orchestrator.shared.task import Commit, Copy, NixosTask
from orchestrator.shared.text import public

#: Types of inputs whose `rev` is a git commit.
OF_GIT = frozenset({"git", "github", "gitlab", "sourcehut"})

#: Types of inputs that name an owner and a repository.
FORGED = OF_GIT - {"git"}

CHANNELS = "https://channels.nixos.org"

#: Letters of a commit's short name, as Nix makes it.
SHORT = 7


@dataclasses.dataclass(frozen=True)
class Flake:
    """A locked flake, empty if the task has none.

    `document` is what nix/locked.nix evaluates: lock, known trees, folder. `places` are those trees
    in the store, which the evaluation may read. `copy` is the flake's own tree there, and the sent
    folder that it is a copy of, None if there is none.
    """

    document: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    places: tuple[str, ...] = ()
    copy: tuple[str, str] | None = None
    materials: tuple[Material, ...] = ()

    @property
    def readable(self) -> list[str]:
        """Return -I options for the trees that a restricted evaluation may read."""
        named = (("-I", f"nixos-image-flake{n}={place}") for n, place in enumerate(self.places))
        return [part for option in named for part in option]


def lock_flake(task: NixosTask, nix: Nix, arguments: list[str]) -> Flake:
    """Lock the task's flake and its inputs with `nix flake metadata`.

    `arguments` are those of the evaluation. No lock file is written. Raises `AgentError`.
    """
    if not task.flake:
        return Flake()
    words = ["flake", "metadata", "--json", "--no-write-lock-file"]
    for name, reference in task.overrides:
        words += ["--override-input", name, known(fetchable(reference), task.copies)]
    said = nix.run([*words, *arguments, known(task.flake, task.copies)])

    def take(found: dict[str, typing.Any]) -> Flake:
        _name_folders(found, task.copies)
        lock, root = found["locks"], str(found["locks"]["root"])
        for name, _reference in task.overrides:
            _check_input(name, lock)
        _check_places(lock, task.sources)
        inputs = {key: node["locked"] for key, node in lock["nodes"].items() if "locked" in node}
        sources = {key: known for key, node in inputs.items() if (known := _in_store(node))}
        own = source(str(found["path"]), found["locked"])
        document = {
            "lock": lock,
            "sources": sources | {root: own | _commit(task.commit)},
            "folder": str(found["locked"].get("dir", "")),
        }
        return Flake(
            document,
            tuple(one["outPath"] for one in document["sources"].values()),
            (own["outPath"], found["locked"]["path"])
            if found["locked"]["type"] == "path"
            else None,
            (
                material("flake", found["locked"], task.commit),
                *(material(f"flake input {key}", inputs[key]) for key in sorted(inputs)),
            ),
        )

    return answer(said, take)


def fetchable(reference: str) -> str:
    """Return a flake reference; only Nix' search path knows `channel:` itself."""
    if not reference.startswith("channel:"):
        return reference
    return f"{CHANNELS}/{reference.removeprefix('channel:')}/nixexprs.tar.xz"


def known(reference: str, copies: tuple[Copy, ...]) -> str:
    """Return `reference`, or that of the same tree in the store, which Nix need not copy there.

    Either has the time of the folder's newest file: the lock must not depend on which it is.
    """
    path, _, query = reference.partition("?")
    for one in copies:
        if path != f"path:{urllib.parse.quote(one.path)}":
            continue
        place = store_path(one.nar_hash)
        words = ["nix-store", "--check-validity", place]
        path = f"path:{place}" if command.run(words, check=False).code == 0 else path
        return f"{path}?{query}{'&' if query else ''}lastModified={one.modified}"
    return reference


def _name_folders(found: dict[str, typing.Any], copies: tuple[Copy, ...]) -> None:
    """Put the sent folders' names into Nix' answer where it has those of the store."""
    hashes = {one.nar_hash: one.path for one in copies}
    nodes = [node["locked"] for node in found["locks"]["nodes"].values() if "locked" in node]
    for locked in (found["locked"], *nodes):
        if locked["type"] == "path" and locked["path"] == store_path_of(locked):
            locked["path"] = hashes.get(locked["narHash"], locked["path"])


def store_path_of(locked: dict[str, typing.Any]) -> str:
    """Return the store path of a locked tree, or ""."""
    return store_path(str(locked["narHash"])) if "narHash" in locked else ""


def source(place: str, locked: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Return what Nix tells a flake of a tree: its `place` in the store, and facts of its lock."""
    facts: dict[str, typing.Any] = {}
    facts |= {name: locked[name] for name in ("narHash", "rev", "revCount") if name in locked}
    if "rev" in facts:
        facts["shortRev"] = facts["rev"][:SHORT]
    if locked["type"] == "git":
        facts["submodules"] = bool(locked.get("submodules"))
    return {"outPath": place, **facts, **_time(locked.get("lastModified", 0))}


def date(seconds: int) -> datetime.datetime:
    """Return the date of a tree, `seconds` since 1970; raises `AgentError` if it has none.

    A commit, a flake.lock and the time of a file may have any number.
    """
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise AgentError(
            f"the flake, or one of its inputs, is from no year between 1 and 9999: {error}",
            hint="see lastModified in flake.lock, the commit's date (git log) and the files' times",
            kind="usage",
        ) from error


def _time(seconds: int) -> dict[str, typing.Any]:
    return {"lastModified": seconds, "lastModifiedDate": f"{date(seconds):%Y%m%d%H%M%S}"}


def _commit(commit: Commit | None) -> dict[str, typing.Any]:
    """Return what Nix tells a flake of the commit that its folder has on the caller's host."""
    if not commit:
        return {}
    short = commit.revision[:SHORT]
    always = {"submodules": commit.submodules, **_time(commit.seconds)}
    if not commit.clean:
        dirty = {"dirtyRev": f"{commit.revision}-dirty", "dirtyShortRev": f"{short}-dirty"}
        return always | dirty
    count = {"revCount": commit.count} if commit.count else {}
    return always | {"rev": commit.revision, "shortRev": short, **count}


def _in_store(locked: dict[str, typing.Any]) -> dict[str, typing.Any] | None:
    """Return what Nix tells of an input that the store has: it needs no network."""
    place = store_path_of(locked)
    return source(place, locked) if place and pathlib.Path(place).exists() else None


def store_path(nar_hash: str) -> str:
    """Return the store path of a source tree with this hash."""
    words = ["nix-store", "--print-fixed-path", "--recursive", "sha256", nar_hash, "source"]
    return command.run(words, fails=AgentError).text.strip()


def _check_input(name: str, lock: dict[str, typing.Any]) -> None:
    """Raise `AgentError` if the lock has no input `name`, such as nixpkgs or home-manager/nixpkgs.

    Nix ignores a replacement for an input that does not exist.
    """
    key, nodes = lock["root"], lock["nodes"]
    for part in name.split("/"):
        inputs = nodes[key].get("inputs", {})
        if part not in inputs:
            raise AgentError(
                f"the flake has no input {name} that could be replaced",
                hint=f"its inputs: {', '.join(sorted(nodes[lock['root']].get('inputs', {})))}",
                kind="usage",
            )
        key = _key(inputs[part], lock)


def _check_places(lock: dict[str, typing.Any], sources: str) -> None:
    """Raise `AgentError` for an input that is a file or folder outside of `sources`.

    Nix has copied it, although an evaluation may not read it: it is not the caller's.
    """
    top = pathlib.Path(sources).resolve()
    for key, node in lock["nodes"].items():
        locked = node.get("locked", {})
        url = urllib.parse.urlsplit(str(locked.get("url", "")))
        place = str(locked.get("path", "")) if locked.get("type") == "path" else ""
        local = place.startswith("/")  # else it is in the tree of the flake that names it
        if url.scheme.rpartition("+")[2] == "file":
            # Nix takes a relative address from its own working directory.
            place, local = urllib.parse.unquote(url.path), True
        within = place.startswith("/") and pathlib.Path(place).resolve().is_relative_to(top)
        if local and not within:
            raise AgentError(
                f"the flake's input {key} is {place}, which was not sent",
                hint=f"./run.sh --override-input {key} PATH sends a folder in its place",
                kind="usage",
            )


def _key(named: typing.Any, lock: dict[str, typing.Any]) -> str:  # noqa: ANN401 - JSON
    """Return the key of a node that the lock names by key, or by a path of inputs ("follows")."""
    if not isinstance(named, list):
        return str(named)
    key = str(lock["root"])
    for part in named:
        key = _key(lock["nodes"][key]["inputs"][part], lock)
    return key


def material(name: str, locked: dict[str, typing.Any], commit: Commit | None = None) -> Material:
    """Return an input from its lock; a path is reduced to its last part.

    `commit` is the one of a sent folder; it counts if the folder has exactly its files.
    """
    kind, revision = str(locked["type"]), str(locked.get("rev", ""))
    if commit and commit.clean:
        revision = commit.revision
    folder = f"?dir={locked['dir']}" if locked.get("dir") else ""
    if kind in FORGED:
        place = f"{kind}:{locked['owner']}/{locked['repo']}/{revision}{folder}"
    elif kind == "path":
        place = f"path:{pathlib.PurePosixPath(locked['path']).name}{folder}"
    elif kind == "indirect":
        place = f"flake:{locked['id']}"
    else:
        place = f"{kind}+{public(str(locked['url']))}{folder}"
    digest = {"narHash": str(locked.get("narHash", ""))}
    if kind in OF_GIT or commit:
        digest["gitCommit"] = revision
    return Material(name, revision, place, {key: text for key, text in digest.items() if text})
