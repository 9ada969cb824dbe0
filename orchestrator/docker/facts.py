"""Remembers facts of this host, until host, engine or our images change.

The facts are labels of a volume that no container mounts: only those with access to Docker's socket
can write them. They only save a run the time of a probe. Whether foreign programs run, and whether
the host is clean afterwards, is tested in each run.
"""

import hashlib
import json
import os
import pathlib

from orchestrator.docker.engine import Engine, EngineInfo
from orchestrator.docker.labels import HOST_VOLUME, LABEL

#: Labels of the volume that remembers facts.
KEY_LABEL = f"{LABEL}.host"
PRIVATE_LABEL = f"{LABEL}.private"

#: File with an id that changes at each boot (random(4)).
BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")

#: Sysctls that allow or forbid user namespaces (Linux, Debian's and Ubuntu's kernels).
SYSCTLS = (
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/unprivileged_userns_clone",
    "user/max_mnt_namespaces",
    "user/max_user_namespaces",
)

#: Docker's network that an engine makes anew at each start: its id and time show a restart.
BRIDGE = "bridge"

#: Environment variable that replaces our seccomp profile (`compose.yaml`).
PROFILE = "NIXOS_IMAGE_SECCOMP"

#: Image of the probe; it contains the seccomp profile.
IMAGE = "nixos-image-orchestrator"


def host_key(engine: Engine, info: EngineInfo) -> str:
    """Hash everything that the facts depend on."""
    found = engine.image(IMAGE)
    image = found["Id"] if found else ""
    bridges = [(one.get("Id"), one.get("Created")) for one in engine.networks_named(BRIDGE)]
    sysctls = [_text(pathlib.Path("/proc/sys", name)) for name in SYSCTLS]
    profile = os.environ.get(PROFILE, "")
    document = json.dumps([_text(BOOT_ID), *info.identity, image, profile, bridges, sysctls])
    return hashlib.sha256(document.encode()).hexdigest()


def private_works(engine: Engine, info: EngineInfo) -> bool:
    """Whether it is remembered that a builder can have its own binfmt_misc on this host."""
    labels = engine.volume_labels(HOST_VOLUME)
    return PRIVATE_LABEL in labels and labels.get(KEY_LABEL) == host_key(engine, info)


def keep_private_works(engine: Engine, info: EngineInfo) -> None:
    """Remember that a builder can have its own binfmt_misc; a failure is not remembered."""
    forget(engine)
    labels = {LABEL: "true", KEY_LABEL: host_key(engine, info), PRIVATE_LABEL: "true"}
    engine.make_volume(HOST_VOLUME, labels)


def forget(engine: Engine) -> None:
    """Remove the remembered facts of the host: one of them has turned out to be wrong."""
    engine.remove_volume(HOST_VOLUME)


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # the kernel does not have this sysctl
        return ""
