"""What was found out about this host, kept until it, its engine or our images are others.

It is kept as labels of a volume of ours that nothing mounts: whoever can write them has Docker's
socket already. They only save a run the time to try again. That programs run, and that nothing of
ours is left, is seen anew in each run.
"""

import hashlib
import json
import os
import pathlib

from orchestrator.docker.engine import Engine, EngineInfo
from orchestrator.docker.labels import HOST_VOLUME, LABEL

#: Labels of the volume.
KEY_LABEL = f"{LABEL}.host"
PRIVATE_LABEL = f"{LABEL}.private"

#: Another one for each start of the kernel (random(4)).
BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")

#: Whether users may make namespaces: of the kernel, of Debian's and Ubuntu's kernels.
SYSCTLS = (
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/unprivileged_userns_clone",
    "user/max_mnt_namespaces",
    "user/max_user_namespaces",
)

#: The network that an engine makes anew when it starts.
BRIDGE = "bridge"

#: The variable that names another seccomp profile than ours (`compose.yaml`).
PROFILE = "NIXOS_IMAGE_SECCOMP"

#: The image that the trial runs in, with the profile that it runs under.
IMAGE = "nixos-image-orchestrator"


def host_key(engine: Engine, info: EngineInfo) -> str:
    """What all of this depends on, in one word: it is another after each change."""
    image = (engine.image(IMAGE) or {}).get("Id", "")
    bridges = [(one.get("Id"), one.get("Created")) for one in engine.networks_named(BRIDGE)]
    sysctls = [_text(pathlib.Path("/proc/sys", name)) for name in SYSCTLS]
    profile = os.environ.get(PROFILE, "")
    document = json.dumps([_text(BOOT_ID), *info.identity, image, profile, bridges, sysctls])
    return hashlib.sha256(document.encode()).hexdigest()


def private_works(engine: Engine, info: EngineInfo) -> bool:
    """Whether a container with the builder's rights could have a table of its own here."""
    labels = engine.volume_labels(HOST_VOLUME)
    return PRIVATE_LABEL in labels and labels.get(KEY_LABEL) == host_key(engine, info)


def keep_private_works(engine: Engine, info: EngineInfo) -> None:
    """Keep that it could; only a success is kept: what fails may be mended any time."""
    forget(engine)
    labels = {LABEL: "true", KEY_LABEL: host_key(engine, info), PRIVATE_LABEL: "true"}
    engine.make_volume(HOST_VOLUME, labels)


def forget(engine: Engine) -> None:
    """Have all found out again: something was not as it was kept."""
    engine.remove_volume(HOST_VOLUME)


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # this kernel has none
        return ""
