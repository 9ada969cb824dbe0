"""All environment variables of this project: who sets it, meaning, default."""

import dataclasses
import typing

#: Who sets a variable. A person sets variables for run.sh. The orchestrator sets those of Compose
#: for a run's containers; with a plain `docker compose up` a person may.
Setter = typing.Literal["a person", "run.sh", "Compose", "the test image", "a test"]


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable; `default` is the value if it is unset or empty."""

    name: str
    setter: Setter
    meaning: str
    default: str = ""


VARIABLES = {
    variable.name: variable
    for variable in (
        Variable(
            "NIXOS_IMAGE_PATIENCE",
            "a person",
            "longest wait in seconds for an answer of Docker",
            "60",
        ),
        Variable(
            "NIXOS_IMAGE_SOCKET",
            "a person",
            "path of Docker's socket on the engine's host, if that is another computer",
            "/var/run/docker.sock",
        ),
        Variable(
            "NIXOS_IMAGE_REGISTRY",
            "a person",
            "registry to pull the images of `locks/images` from, instead of the one that is named"
            " there; `none`: build them",
        ),
        Variable(
            "NIXOS_CONFIG",
            "a person",
            "the configuration to build if neither `-c` nor `--flake` is given",
        ),
        Variable(
            "NIX_PATH",
            "a person",
            "its entry `nixpkgs`, if that is an existing folder, is nixpkgs where `--nixpkgs` and"
            " `--flake` are not given",
        ),
        Variable("NIXOS_IMAGE_CWD", "run.sh", "the caller's working directory", "/"),
        Variable("NIXOS_IMAGE_HOME", "run.sh", "the caller's home folder", "/"),
        Variable("NIXOS_IMAGE_ROOT", "run.sh", "the checkout's path on the caller's host", "/"),
        Variable(
            "NIXOS_IMAGE_COLUMNS", "run.sh", "width of the caller's terminal; 0: no terminal", "0"
        ),
        Variable("NIXOS_IMAGE_ROWS", "run.sh", "height of the caller's terminal; 0: unknown", "0"),
        Variable("NO_COLOR", "a person", "not empty: no colors in the progress"),
        Variable(
            "NIXOS_IMAGE_CI",
            "run.sh",
            "`github` or `gitlab` where one of their jobs runs (`GITHUB_ACTIONS`, `GITLAB_CI`)",
        ),
        Variable(
            "NIXOS_IMAGE_ASKS", "run.sh", "1 if a person at a terminal can answer a question", "0"
        ),
        Variable("NIXOS_IMAGE_COMPUTER", "run.sh", "host name of the caller's computer"),
        Variable(
            "NIXOS_IMAGE_NIXPKGS", "run.sh", "the folder that NIX_PATH names as nixpkgs, if any"
        ),
        Variable(
            "NIXOS_IMAGE_APPLIANCE",
            "run.sh",
            "path of the appliance.toml on the caller's host, if there is one",
        ),
        Variable("NIXOS_IMAGE_APPLIANCE_TEXT", "run.sh", "content of the appliance.toml"),
        Variable(
            "NIXOS_IMAGE_BUILDERS",
            "run.sh",
            "the lines of `--builders`: each option's after a line with `@` and the folder from"
            " which its keys' paths are seen",
        ),
        Variable("NIXOS_IMAGE_USER", "run.sh", "the caller's name, for `init`"),
        Variable("NIXOS_IMAGE_ZONE", "run.sh", "the caller's time zone, for `init`"),
        Variable(
            "NIXOS_IMAGE_AGENT_KEYS", "run.sh", "public keys of the caller's SSH agent, for `init`"
        ),
        Variable(
            "NIXOS_IMAGE_FINDINGS",
            "run.sh",
            "what run.sh has found on the caller's computer, for `doctor`",
        ),
        Variable("NIXOS_IMAGE_OUT_KIB", "run.sh", "free KiB in the output folder; empty: unknown"),
        Variable(
            "NIXOS_IMAGE_SPARSE", "run.sh", "0 if the caller's tar cannot read sparse files", "1"
        ),
        Variable("NIXOS_IMAGE_CA_BUNDLE", "run.sh", "path of the caller's CA bundle, if any"),
        Variable("NIXOS_IMAGE_ORCHESTRATOR", "run.sh", "id of the orchestrator's image"),
        Variable("NIXOS_IMAGE_INPUT", "run.sh", "1 if stdin carries the caller's files", "0"),
        Variable(
            "NIXOS_IMAGE_SOURCE", "run.sh", "checksum of the orchestrator image's inputs, its label"
        ),
        Variable("NIXOS_IMAGE_CHECKOUT", "Compose", "path of the checkout in the test container"),
        Variable(
            "NIXOS_IMAGE_RUN", "Compose", "name of the run that a container is part of", "compose"
        ),
        Variable(
            "NIXOS_IMAGE_SYSTEMS",
            "Compose",
            "Nix systems to build for, or to register emulators of; default: aarch64-linux,"
            " or x86_64-linux on an aarch64 host",
        ),
        Variable("NIXOS_IMAGE_GUEST", "Compose", "CPU of the boot check's machine", "aarch64"),
        Variable("NIXOS_IMAGE_PACKAGES", "Compose", "Debian packages of the boot check's machine"),
        Variable(
            "NIXOS_IMAGE_STATE",
            "Compose",
            "checksum of a container image's inputs, which becomes its label",
        ),
        Variable(
            "NIXOS_IMAGE_ID_BOOT",
            "Compose",
            "id or name of the boot check's image",
            "nixos-image-boot-${NIXOS_IMAGE_GUEST:-aarch64}",
        ),
        Variable(
            "NIXOS_IMAGE_ID_BUILDER",
            "Compose",
            "id or name of the builder's image",
            "nixos-image-builder",
        ),
        Variable(
            "NIXOS_IMAGE_ID_CLEANUP",
            "Compose",
            "id or name of the emulators' image",
            "nixos-image-qemu-setup:${NIXOS_IMAGE_QEMU:-latest}",
        ),
        Variable(
            "NIXOS_IMAGE_ID_ORCHESTRATOR",
            "Compose",
            "id or name of the orchestrator's image",
            "nixos-image-orchestrator",
        ),
        Variable(
            "NIXOS_IMAGE_ID_RUNTIME",
            "Compose",
            "id or name of the image that all others are made of",
            "nixos-image-runtime",
        ),
        Variable(
            "NIXOS_IMAGE_ID_TEST",
            "Compose",
            "id or name of the test image",
            "nixos-image-test",
        ),
        Variable(
            "NIXOS_IMAGE_ID_WORKER",
            "Compose",
            "id or name of the worker's image",
            "nixos-image-worker",
        ),
        Variable(
            "NIXOS_IMAGE_WORKER_KEYS",
            "Compose",
            "public SSH keys that the worker lets in, separated by commas",
        ),
        Variable(
            "NIXOS_IMAGE_WORKER_JOBS",
            "Compose",
            "builds at a time in the worker's builder line; default: its number of CPUs",
        ),
        Variable(
            "NIXOS_IMAGE_WORKER_LISTEN",
            "Compose",
            "address of the host at which the worker listens",
            "127.0.0.1",
        ),
        Variable(
            "NIXOS_IMAGE_WORKER_ADDRESS",
            "Compose",
            "name or address of the host in the worker's builder line; default: where it listens",
        ),
        Variable("NIXOS_IMAGE_WORKER_PORT", "Compose", "port of the host for the worker", "2222"),
        Variable("NIXOS_IMAGE_QEMU", "Compose", "version of the emulators", "latest"),
        Variable("NIXOS_IMAGE_LOCKED", "Compose", "1 allows only the pinned versions of packages"),
        Variable(
            "NIXOS_IMAGE_LOG", "Compose", "log format of the containers: plain or json", "plain"
        ),
        Variable("NIXOS_IMAGE_MEMORY", "Compose", "the builder's memory limit; 0: no limit", "0"),
        Variable(
            "NIXOS_IMAGE_SECCOMP",
            "Compose",
            "the builder's seccomp profile, as a Docker security option",
            "seccomp:./orchestrator/docker/seccomp.json",
        ),
        Variable(
            "NIXOS_IMAGE_START_SECONDS",
            "Compose",
            "seconds that containers wait for each other at the start",
            "120",
        ),
        Variable(
            "NIXOS_IMAGE_GRACE_SECONDS",
            "Compose",
            "seconds that cleanup waits for a builder whose connection is lost",
            "15",
        ),
        Variable(
            "NIXOS_IMAGE_DEADLINE_SECONDS",
            "Compose",
            "longest duration of a run in seconds",
            "86400",
        ),
        Variable("NIXOS_IMAGE_TEST_SHELL", "a test", "shell that runs run.sh in tests", "sh"),
        Variable("NIXOS_IMAGE_TEST_TAR", "a test", "tar that run.sh finds in tests", "tar"),
        Variable(
            "NIXOS_IMAGE_IN_TEST_IMAGE",
            "the test image",
            "set if every tool that tests need is installed",
        ),
    )
}


def read(environment: typing.Mapping[str, str], name: str) -> str:
    """Return the variable `name`, or its default if it is unset or empty."""
    default = VARIABLES[name].default
    return environment.get(name) or default


def table() -> str:
    """Return all variables as a Markdown table."""
    rows = [
        f"| `{one.name}` | {one.setter} | {one.meaning} | {one.default and f'`{one.default}`'} |"
        for one in VARIABLES.values()
    ]
    head = ["| variable | set by | meaning | default |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
