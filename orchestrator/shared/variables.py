"""Every environment variable of this project's: who sets it, what it means, its default."""

import dataclasses
import typing

#: Who sets a variable. What a person sets is for run.sh; what Compose is given is set by the
#: orchestrator for a run's containers, and by a person for `docker compose up` by itself.
Setter = typing.Literal["a person", "run.sh", "Compose", "the test image", "a test"]


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable; `default` is what an unset or empty one stands for."""

    name: str
    setter: Setter
    meaning: str
    default: str = ""


VARIABLES = {
    variable.name: variable
    for variable in (
        Variable(
            "NIXOS_IMAGE_PATIENCE", "a person", "seconds that Docker may take to answer", "60"
        ),
        Variable(
            "NIXOS_IMAGE_SOCKET",
            "a person",
            "path of Docker's socket on the engine's own host, where that is another computer",
            "/var/run/docker.sock",
        ),
        Variable("NIXOS_IMAGE_CWD", "run.sh", "the caller's working directory", "/"),
        Variable("NIXOS_IMAGE_HOME", "run.sh", "the caller's home", "/"),
        Variable("NIXOS_IMAGE_ROOT", "run.sh", "the checkout's path on the caller's host", "/"),
        Variable("NIXOS_IMAGE_COLUMNS", "run.sh", "the terminal's width; 0 is none", "0"),
        Variable("NIXOS_IMAGE_OUT_KIB", "run.sh", "free KiB where images go; empty is unknown"),
        Variable("NIXOS_IMAGE_SPARSE", "run.sh", "0 where the caller's tar knows no holes", "1"),
        Variable("NIXOS_IMAGE_CA_BUNDLE", "run.sh", "path of the caller's CA bundle, if any"),
        Variable("NIXOS_IMAGE_INPUT", "run.sh", "1 where files of the caller's come on stdin", "0"),
        Variable("NIXOS_IMAGE_SOURCE", "run.sh", "sum of what the orchestrator is made of"),
        Variable("NIXOS_IMAGE_CHECKOUT", "Compose", "where the test container has the checkout"),
        Variable("NIXOS_IMAGE_RUN", "Compose", "the run's name", "compose"),
        Variable(
            "NIXOS_IMAGE_SYSTEMS",
            "Compose",
            "Nix systems to build for, or to register emulators of; by default the one that is"
            " foreign to the host",
        ),
        Variable("NIXOS_IMAGE_GUEST", "Compose", "machine that an image is booted on", "aarch64"),
        Variable("NIXOS_IMAGE_PACKAGES", "Compose", "Debian packages that such a guest needs"),
        Variable("NIXOS_IMAGE_STATE", "Compose", "sum of what an image is made of"),
        Variable("NIXOS_IMAGE_QEMU", "Compose", "version of the emulators", "latest"),
        Variable("NIXOS_IMAGE_LOCKED", "Compose", "1 forbids successors of pinned packages"),
        Variable("NIXOS_IMAGE_LOG", "Compose", "what containers print: plain or json", "plain"),
        Variable("NIXOS_IMAGE_MEMORY", "Compose", "the builder's memory limit; 0 is none", "0"),
        Variable(
            "NIXOS_IMAGE_SECCOMP",
            "Compose",
            "the builder's security option about system calls",
            "seccomp:./orchestrator/docker/seccomp.json",
        ),
        Variable(
            "NIXOS_IMAGE_START_SECONDS",
            "Compose",
            "how long containers wait for each other at the start",
            "120",
        ),
        Variable(
            "NIXOS_IMAGE_GRACE_SECONDS",
            "Compose",
            "how long cleanup waits for a builder whose connection is lost",
            "15",
        ),
        Variable(
            "NIXOS_IMAGE_DEADLINE_SECONDS", "Compose", "after how long cleanup ends a run", "86400"
        ),
        Variable("NIXOS_IMAGE_TEST_SHELL", "a test", "shell that runs run.sh", "sh"),
        Variable("NIXOS_IMAGE_TEST_TAR", "a test", "tar that run.sh finds", "tar"),
        Variable(
            "NIXOS_IMAGE_IN_TEST_IMAGE",
            "the test image",
            "set where every tool that tests need is there",
        ),
    )
}


def read(environment: typing.Mapping[str, str], name: str) -> str:
    """The value of `name` in `environment`, its default where it is unset or empty."""
    default = VARIABLES[name].default
    return environment.get(name) or default


def table() -> str:
    """All variables as a Markdown table."""
    rows = [
        f"| `{one.name}` | {one.setter} | {one.meaning} | {one.default and f'`{one.default}`'} |"
        for one in VARIABLES.values()
    ]
    head = ["| variable | set by | meaning | default |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
