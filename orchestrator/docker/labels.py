"""Names by which the project's own containers, networks, volumes and images are known."""

PROJECT = "nixos-image"
LABEL = "org.nixos-image"
RUN_LABEL = f"{LABEL}.run"
SOURCE_LABEL = f"{LABEL}.source"

#: What outlives runs, and what earlier versions had besides: one volume for all runs' folders.
STORE_VOLUME = f"{PROJECT}-store"
OLD_WORK_VOLUME = f"{PROJECT}-work"

#: The volume whose labels say what is known of the host (`facts.py`).
HOST_VOLUME = f"{PROJECT}-host"


def work_volume(run: str) -> str:
    """The volume that `run` shares with its agents; run.sh and compose.yaml know the name, too."""
    return f"{PROJECT}-work-{run or 'compose'}"
