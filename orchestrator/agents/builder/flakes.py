"""Locks a flake before it is evaluated, and records it with its inputs."""

import dataclasses
import pathlib
import typing

from orchestrator.agents.builder.nix import Nix, answer
from orchestrator.shared.artifact import Material
from orchestrator.shared.text import public

#: Types of inputs whose `rev` is a git commit.
OF_GIT = frozenset({"git", "github", "gitlab", "sourcehut"})

#: Types of inputs that name an owner and a repository.
FORGED = OF_GIT - {"git"}


@dataclasses.dataclass(frozen=True)
class Flake:
    """A locked flake: its `reference`, empty if there is no flake, and its sources."""

    reference: str = ""
    materials: tuple[Material, ...] = ()


def lock_flake(reference: str, nix: Nix, arguments: list[str]) -> Flake:
    """Lock the flake `reference` and its inputs with `nix flake metadata`.

    `arguments` are those of the evaluation. No lock file is written. Raises `AgentError`.
    """
    if not reference:
        return Flake()
    words = ["flake", "metadata", "--json", "--no-write-lock-file"]
    said = nix.run([*words, *arguments, reference])

    def take(found: dict[str, typing.Any]) -> Flake:
        itself = [material("flake", found["locked"])]
        nodes = found["locks"]["nodes"]
        inputs = [
            material(f"flake input {name}", node["locked"])
            for name, node in sorted(nodes.items())
            if "locked" in node
        ]
        return Flake(str(found["url"]), (*itself, *inputs))

    return answer(said, take)


def material(name: str, locked: dict[str, typing.Any]) -> Material:
    """Return an input from its lock; a path is reduced to its last part."""
    kind, revision = str(locked["type"]), str(locked.get("rev", ""))
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
    if kind in OF_GIT:
        digest["gitCommit"] = revision
    return Material(name, revision, place, {key: text for key, text in digest.items() if text})
