"""Names and labels of the project's containers, networks, volumes and images."""

PROJECT = "nixos-image"
LABEL = "org.nixos-image"
RUN_LABEL = f"{LABEL}.run"
SOURCE_LABEL = f"{LABEL}.source"

#: Label of the orchestrator's image: id of the image that it and all others are made of.
PARENT_LABEL = f"{LABEL}.parent"

#: Suffix of SOURCE_LABEL's value on images that were built with --locked (`compose.yaml`).
LOCKED = "-locked"

#: The Nix store's volume, which is kept between runs; and the work volume of earlier versions,
#: which all runs shared.
STORE_VOLUME = f"{PROJECT}-store"
OLD_WORK_VOLUME = f"{PROJECT}-work"

#: Volume whose labels remember facts of the host (`facts.py`).
HOST_VOLUME = f"{PROJECT}-host"


def work_volume(run: str) -> str:
    """Name of the volume that `run` shares with its agents; run.sh and compose.yaml use it, too."""
    return f"{PROJECT}-work-{run or 'compose'}"
