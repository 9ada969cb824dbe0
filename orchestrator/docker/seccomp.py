"""Makes the builder's seccomp profile: Docker's default plus system calls for namespaces.

`seccomp.json` is made from Docker's `profiles/seccomp/default.json` (Apache License 2.0), as Debian
has it in golang-github-docker-docker-dev:

    python3 -m orchestrator.docker.seccomp default.json > orchestrator/docker/seccomp.json

Docker allows these calls only to containers that have CAP_SYS_ADMIN (chroot: CAP_SYS_CHROOT):
with privileges on the host they would be dangerous. A builder has no privileges: the kernel then
allows these calls only inside a user namespace that the builder has created.
"""

import hashlib
import json
import pathlib
import sys
import typing

PROFILE = pathlib.Path(__file__).with_name("seccomp.json")

#: `digest` of Docker 26.1.5's default profile.
DEFAULT_DIGEST = "33207991a16d8ac3c779c6fcdb0fc5c8ed41e8580d0110529039753d0db5046d"

#: Additionally allowed system calls, with reasons. Each is necessary: tests/integration removes
#: them one at a time.
ADDED = {
    "chroot": "Nix enters a build's root file system",
    "clone": "Nix starts a build in new namespaces (Docker allows it without their flags)",
    "mount": "binfmt_misc for private emulation; bind mounts of the store in a build's sandbox",
    "pivot_root": "Nix replaces the container's root file system in a build's sandbox",
    "setdomainname": "Nix gives every build the same domain name",
    "sethostname": "Nix gives every build the same host name",
    "umount2": "Nix unmounts the container's root file system in a build's sandbox",
    "unshare": "private emulation creates its user namespace",
}

Profile = dict[str, typing.Any]


def extended(default: Profile) -> Profile:
    """Return Docker's profile `default` with `ADDED`."""
    rule = {"names": sorted(ADDED), "action": "SCMP_ACT_ALLOW"}
    return {**default, "syscalls": [*default["syscalls"], rule]}


def digest(profile: Profile) -> str:
    """Return the SHA-256 of the profile, independent of its JSON formatting."""
    return hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).hexdigest()


def table() -> str:
    """Return the additions to Docker's default as a Markdown table."""
    rows = [f"| `{name}` | {why} |" for name, why in ADDED.items()]
    return "\n".join(["| system call | reason |", "| --- | --- |", *rows]) + "\n"


if __name__ == "__main__":
    document = json.loads(pathlib.Path(sys.argv[1]).read_text())
    print(json.dumps(extended(document), indent=1))
