"""Tests reported privileges, from Compose's configuration and from docker inspect."""

import json
import pathlib
import re
import typing

import pytest

from orchestrator.docker import privileges, seccomp
from orchestrator.docker.answers import Container, read

ROOT = pathlib.Path(__file__).parents[2]

CONFIG = {
    "networks": {"lease": {"internal": True}, "default": {}},
    "services": {
        "builder": {
            "image": "nixos-image-builder",
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true", f"seccomp:{seccomp.PROFILE}"],
            "networks": {"default": None, "lease": None},
            "volumes": [{"source": "store", "target": "/nix"}],
            "devices": [{"source": "/dev/kvm", "target": "/dev/kvm", "permissions": "rwm"}],
            "read_only": True,
            "mem_limit": str(2048 << 20),
            "pids_limit": 100,
        },
        "registrar": {
            "image": "nixos-image-qemu-setup",
            "user": "0",
            "cap_add": ["SYS_ADMIN"],
            "network_mode": "none",
            "volumes": [{"source": "lease", "target": "/run/lease", "read_only": True}],
            "mem_limit": "0",
        },
    },
}


def test_a_service_is_told_from_composes_configuration() -> None:
    assert privileges.planned("builder", CONFIG).describe() == (
        "builder\n"
        "  image         nixos-image-builder\n"
        "  user          the image's\n"
        "  capabilities  none\n"
        "  security      no-new-privileges, seccomp=orchestrator/docker/seccomp.json\n"
        "  networks      default, lease (internal)\n"
        "  mounts        store:/nix\n"
        "  devices       /dev/kvm\n"
        "  root          read-only\n"
        "  limits        100 processes, 2048 MiB of memory"
    )
    text = privileges.planned("registrar", CONFIG).describe()
    for line in (
        "capabilities  SYS_ADMIN",
        "networks      none",
        "mounts        lease:/run/lease:ro",
        "devices       none",
        "root          writable",
        "limits        none",
    ):
        assert f"\n  {line}\n" in f"{text}\n"


#: Excerpt of `docker inspect` of an ended builder.
INSPECTED: dict[str, typing.Any] = {
    "Image": "sha256:1",
    "Config": {"User": "1000"},
    "State": {
        "Running": False,
        "StartedAt": "2026-01-02T03:04:05.123456789Z",
        "FinishedAt": "2026-01-02T03:04:07.5Z",
    },
    "HostConfig": {
        "CapAdd": ["CAP_SYS_ADMIN"],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "MaskedPaths": [],
        "Devices": [{"PathOnHost": "/dev/kvm"}],
        "ReadonlyRootfs": True,
        "Memory": 2048 << 20,
        "PidsLimit": 100,
    },
    "NetworkSettings": {"Networks": {"b": {}, "a": {}, "none": {}}},
    "Mounts": [
        {"Name": "work", "Source": "/var/lib/x", "Destination": "/w", "RW": True},
        {"Source": "/run/docker.sock", "Destination": "/s", "RW": False},
    ],
}


def inspected(document: dict[str, typing.Any]) -> Container:
    return read(Container, document, "docker inspect")


def test_a_container_is_told_from_dockers_words() -> None:
    assert privileges.actual("builder", inspected(INSPECTED)) == privileges.Receipt(
        service="builder",
        image="sha256:1",
        user="1000",
        capabilities=("SYS_ADMIN",),
        dropped=("ALL",),
        security=("no-new-privileges", "systempaths=unconfined"),
        networks=("a", "b"),
        mounts=("/run/docker.sock:/s:ro", "work:/w"),
        devices=("/dev/kvm",),
        read_only=True,
        memory=2048,
        pids=100,
        seconds=2.377,
    )


def test_what_an_engine_leaves_out_is_nothing() -> None:
    bare = INSPECTED | {
        "Config": {},
        "HostConfig": {"CapAdd": None, "SecurityOpt": None, "MaskedPaths": ["/proc/x"]},
        "NetworkSettings": {"Networks": None},
        "State": {"Running": True, "StartedAt": "2026-01-02T03:04:05Z", "FinishedAt": ""},
        "Mounts": [],
    }
    found = privileges.actual("builder", inspected(bare))
    assert (found.user, found.memory, found.pids, found.seconds) == ("root", None, None, None)
    assert not (*found.capabilities, *found.security, *found.networks, *found.mounts)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("no-new-privileges:true", "no-new-privileges"),
        ("no-new-privileges", "no-new-privileges"),
        ("apparmor=unconfined", "apparmor=unconfined"),
        ("seccomp=unconfined", "seccomp=unconfined"),
        (f"seccomp={seccomp.PROFILE.read_text()}", "seccomp=orchestrator/docker/seccomp.json"),
        (f"seccomp={json.dumps({'defaultAction': 'SCMP_ACT_ALLOW'})}", "seccomp=sha256=e658ea75"),
    ],
)
def test_a_security_option_is_told_in_few_words(option: str, words: str) -> None:
    assert privileges._option(option).startswith(words)


#: Linux' own value of kernel.pid_max on hosts with up to 32 CPUs.
PID_MAX = 32768


def test_every_service_has_limits() -> None:
    text = (ROOT / "compose.yaml").read_text()
    (small,) = re.findall(r"^x-small: &small\n((?:  .*\n)+)", text, re.MULTILINE)
    assert re.search("pids_limit: [0-9]+", small)
    assert re.search("mem_limit: [0-9]+m", small)
    services = text.split("\nservices:\n")[1].split("\nnetworks:\n")[0]
    blocks = re.split(r"^  (?=[\w-]+:$)", services, flags=re.MULTILINE)
    blocks = [block for block in blocks if re.match(r"[\w-]+:\n", block)]
    assert len(blocks) == 18
    for block in blocks:
        name = block.partition(":")[0]
        # The test suite has Docker's socket: limits would not restrict it.
        limited = "*small" in block or ("pids_limit" in block and "mem_limit" in block)
        assert limited or "extends: {service: boot}" in block or name == "test", name
    # Linux has 32768 processes and threads, unless somebody has set another number (proc(5)).
    assert max(map(int, re.findall("pids_limit: ([0-9]+)", text))) <= PID_MAX // 2
