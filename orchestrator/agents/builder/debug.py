"""Agent debug: a shell in the folder of a failed derivation, for --debug-shell.

The builder notes the derivation (`note`) and Nix keeps its folder. The shell has the derivation's
variables, and the functions of nixpkgs' stdenv where the derivation has one.
"""

import dataclasses
import json
import os
import pathlib
import shlex

from orchestrator.agents.builder.nixlog import derivation_name
from orchestrator.agents.emulation import emulators, private
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command
from orchestrator.shared.json_reader import FreeText, JsonError, from_json, read_json
from orchestrator.shared.run import this_run
from orchestrator.shared.task import FAILED, Task

#: Variables that Nix sets in a build to folders of its sandbox; in the shell they are the kept one.
FOLDERS = ("NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD")

#: Longest time in seconds until Nix has told a derivation.
TELL_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Failed:
    """A derivation that failed: its path, variables and names of outputs."""

    path: str
    variables: dict[str, FreeText]
    outputs: tuple[str, ...]


def note(file: pathlib.Path, path: str) -> None:
    """Write to `file` what Nix knows of the derivation `path`.

    The shell has a read-only store, in which Nix does not run. Without an answer of Nix the shell
    has no variables of the derivation.
    """
    words = ["nix", "--extra-experimental-features", "nix-command", "derivation", "show", path]
    said = command.run(words, timeout=TELL_SECONDS, check=False).text
    variables, outputs = known_of(said)
    document = {"path": path, "variables": variables, "outputs": outputs}
    file.write_text(json.dumps(document))


def known_of(said: str) -> tuple[dict[str, str], list[str]]:
    """Return variables and outputs in the answer of `nix derivation show`; its form varies."""
    try:
        document = json.loads(said)
        document = document.get("derivations", document)
        (one,) = document.values()
        variables = {str(name): str(value) for name, value in one["env"].items()}
        return variables, [str(name) for name in one["outputs"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, []


def read_failed(folder: pathlib.Path) -> Failed:
    """Read what `note` has written in the run's `folder`; raises `AgentError`."""
    try:
        return from_json(Failed, read_json((folder / FAILED).read_text(), FAILED), FAILED)
    except (OSError, JsonError) as error:
        raise AgentError(
            f"the failed derivation, for a shell in it, was not noted: {error}", kind="build"
        ) from error


def kept_folder(builds: pathlib.Path) -> pathlib.Path:
    """Return the folder of the last failed build in Nix' build-dir; raises `AgentError`."""
    folders = [one for one in builds.glob("*") if one.is_dir() and not one.is_symlink()]
    if not folders:
        raise AgentError("Nix has kept no folder of the failed build", kind="build")
    last = max(folders, key=lambda one: one.stat().st_mtime)
    inner = last / "build"  # Nix 2.26 and newer make a folder above
    return inner if inner.is_dir() else last


def start_file(failed: Failed, folder: pathlib.Path) -> str:
    """Return the shell's start file: variables, stdenv's functions, the folder, a greeting."""
    name = derivation_name(failed.path)
    outputs = folder.parent / "outputs"
    own = {variable: os.fspath(folder) for variable in FOLDERS}
    own |= {output: os.fspath(outputs / output) for output in failed.outputs}
    given = {key: value for key, value in failed.variables.items() if key.isidentifier()}
    greeting = [
        f"This is the folder of the failed derivation {name}, with its variables.",
        f"Outputs go to {outputs}; the store is read-only. exit ends the shell and removes all.",
    ]
    return "\n".join(
        [
            *(f"export {key}={shlex.quote(value)}" for key, value in given.items()),
            f"cd {shlex.quote(os.fspath(folder))}",
            "[ ! -e env-vars ] || . ./env-vars",
            # stdenv's setup ends a shell whose commands fail, and its trap would end this one.
            '[ ! -e "${stdenv-}/setup" ] || . "$stdenv/setup"',
            "set +eu; trap - EXIT ERR; shopt -u inherit_errexit",
            *(f"export {key}={shlex.quote(value)}" for key, value in own.items()),
            f"mkdir -p {shlex.quote(os.fspath(outputs))}",
            'export HOME=/tmp/home PATH="$PATH:/usr/local/bin:/usr/bin:/bin"; mkdir -p "$HOME"',
            f"PS1={shlex.quote(f'[{name}] $PWD $ ')}",
            *(f"echo {shlex.quote(line)}" for line in greeting),
            "",
        ]
    )


def shell() -> None:
    """Register the build's emulators, then run the shell on this process' terminal."""
    run = this_run()
    task = Task.read(run.folder)
    failed = read_failed(run.folder)
    folder = kept_folder(run.folder / "builds")
    if task.private:
        user, group = os.getuid(), os.getgid()
        private.enter()
        emulators.register(run, task.private)
        private.leave(user, group)
    file = pathlib.Path("/tmp/debug-shell")  # noqa: S108 - this container's own
    file.write_text(start_file(failed, folder))
    command.run_attached(["/bin/bash", "--noprofile", "--rcfile", os.fspath(file), "-i"])


if __name__ == "__main__":
    run_agent("debug", shell)
