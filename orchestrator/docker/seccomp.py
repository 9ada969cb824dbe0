"""The builder's seccomp profile: Docker's own and exactly the system calls that namespaces need.

`seccomp.json` is made from Docker's `profiles/seccomp/default.json` (Apache License 2.0), as Debian
has it in golang-github-docker-docker-dev:

    python3 -m orchestrator.docker.seccomp default.json > orchestrator/docker/seccomp.json

Docker allows these calls only to containers that have CAP_SYS_ADMIN (chroot: CAP_SYS_CHROOT):
with rights on the host they would do harm. A builder has none: the kernel then allows them only
inside a user namespace that the builder has made.
"""

import hashlib
import json
import pathlib
import sys
import typing

PROFILE = pathlib.Path(__file__).with_name("seccomp.json")

#: Docker 26.1.5's default, as `digest` tells it.
DEFAULT_DIGEST = "33207991a16d8ac3c779c6fcdb0fc5c8ed41e8580d0110529039753d0db5046d"

#: What is allowed beyond it, and for what. Each was seen to be needed: tests/integration takes one
#: away after the other.
ADDED = {
    "chroot": "Nix enters a build's own root",
    "clone": "Nix starts a build in new namespaces (Docker allows it without their flags)",
    "mount": "binfmt_misc for private emulation; what a build sees of the store",
    "pivot_root": "Nix leaves the container's root behind",
    "setdomainname": "Nix gives every build the same domain name",
    "sethostname": "Nix gives every build the same host name",
    "umount2": "Nix takes the container's root out of a build's view",
    "unshare": "private emulation makes its user namespace",
}

Profile = dict[str, typing.Any]


def extended(default: Profile) -> Profile:
    """Docker's profile `default` with `ADDED`."""
    rule = {"names": sorted(ADDED), "action": "SCMP_ACT_ALLOW"}
    return {**default, "syscalls": [*default["syscalls"], rule]}


def digest(profile: Profile) -> str:
    """SHA-256 of the profile, whatever its layout was."""
    return hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).hexdigest()


def table() -> str:
    """What differs from Docker's default, as a Markdown table."""
    rows = [f"| `{name}` | {why} |" for name, why in ADDED.items()]
    return "\n".join(["| system call | for what |", "| --- | --- |", *rows]) + "\n"


if __name__ == "__main__":
    document = json.loads(pathlib.Path(sys.argv[1]).read_text())
    print(json.dumps(extended(document), indent=1))
