"""Names and labels of the project's containers, networks, volumes and images."""

PROJECT = "nixos-image"
LABEL = "org.nixos-image"
RUN_LABEL = f"{LABEL}.run"

#: Label of images: checksum of what the image is made of. The orchestrator's image has a second
#: word there, the id of the image that it and all others are made of: each label costs a step.
SOURCE_LABEL = f"{LABEL}.source"

#: Suffix of SOURCE_LABEL's checksum on images that were built with --locked (`compose.yaml`).
LOCKED = "-locked"

#: Beginning of the names of containers that become images. They have no label of their run, which
#: the image would have, too.
MAKER = f"{PROJECT}-make-"

#: The Nix store's volume, which is kept between runs; and the work volume of earlier versions,
#: which all runs shared.
STORE_VOLUME = f"{PROJECT}-store"

#: Volume with /nix of the worker.
WORKER_STORE_VOLUME = f"{PROJECT}-worker-store"
OLD_WORK_VOLUME = f"{PROJECT}-work"

#: Volume whose labels remember facts of the host (`facts.py`).
HOST_VOLUME = f"{PROJECT}-host"


def tree_volume(key: str) -> str:
    """Name of the volume with the copy of a folder that a caller sends; run.sh uses it, too."""
    return f"{PROJECT}-tree-{key}"


def work_volume(run: str) -> str:
    """Name of the volume that `run` shares with its agents; run.sh and compose.yaml use it, too."""
    return f"{PROJECT}-work-{run or 'compose'}"
