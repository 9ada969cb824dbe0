"""A run's folders: one on the work volume, shared with agents, and the orchestrator's own.

A build's programs run as the builder's user, who may replace any file it can write by a link, a
pipe or another file at any time. The orchestrator is root and has the Docker socket. So it writes
only where that user can neither move nor replace files, and takes a file over before it reads it.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import stat

from orchestrator.shared.builders import BUILDERS
from orchestrator.shared.constants import BUILDER
from orchestrator.shared.errors import BuildError
from orchestrator.shared.push import KEYS
from orchestrator.shared.run import LATE, SENT, WORD, WORK

#: Folder in the run's shared folder for files taken over from agents; only root may write to it.
TAKEN = "taken"

#: Folder in the run's shared folder that only root may read, for what agents must neither see nor
#: name. An evaluation may read all of the upload folder; an image may have any name in TAKEN.
ROOTS_OWN = "root"

#: File there with the variables of Compose of a run that --debug-shell opens a shell in; a run's
#: folder that has it is left to run.sh, which removes the volume.
KEPT = "compose.env"

#: Uid of the unprivileged user in the builder's and the boot image. With userns-remap, uids of all
#: other containers are shifted; the owner of this file, root in the image, shows by how much.
BUILDER_UID = pathlib.Path(__file__).stat().st_uid + BUILDER


@dataclasses.dataclass(frozen=True)
class Workspace:
    """`shared` is the run's folder on the work volume, `own` is only in this container."""

    shared: pathlib.Path
    own: pathlib.Path

    @property
    def logs(self) -> pathlib.Path:
        """Folder of build logs of container images."""
        return self.own / "logs"

    @property
    def variables(self) -> pathlib.Path:
        """Path of Compose's env file."""
        return self.own / "compose.env"

    @property
    def late(self) -> pathlib.Path:
        """Folder of late values, hidden from agents until Nix has ended."""
        return self.own / "late"

    @property
    def keys(self) -> pathlib.Path:
        """Folder of the keys of --push, which the agent `push` alone may read."""
        return self.own / "keys"

    @property
    def bills(self) -> pathlib.Path:
        """Folder of earlier images' bills of materials, if run.sh sent any."""
        return self.own / "bills"

    @property
    def builders(self) -> pathlib.Path:
        """File with the builders and their SSH keys, if given."""
        return self.own / BUILDERS

    @property
    def nix_conf(self) -> pathlib.Path:
        """File with the caller's nix.conf lines, if given."""
        return self.own / "nix.conf"


def make_shared(run: str) -> pathlib.Path:
    """Make the folder of `run` on the work volume; only root has access until `open_to_agents`."""
    # Sticky, so that no agent can move the run's folder.
    os.chown(WORK, 0, 0)
    WORK.chmod(0o1777)
    folder = WORK / run
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)  # the engine has made it if a copy of a sent folder is mounted in it
    return folder


def mount_points() -> frozenset[pathlib.Path]:
    """Return this container's mount points.

    `os.path.ismount` takes a volume for a folder if both are on one file system.
    """
    lines = pathlib.Path("/proc/self/mounts").read_bytes().splitlines()

    def plain(word: bytes) -> pathlib.Path:  # proc(5): a space is \040
        digits = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), word)
        return pathlib.Path(os.fsdecode(digits))

    return frozenset(plain(line.split(b" ")[1]) for line in lines)


def open_to_agents(folder: pathlib.Path) -> None:
    """Let agents create files in `folder`; sticky, so that existing files cannot be moved."""
    (folder / TAKEN).mkdir(exist_ok=True)  # a run's second attempt finds the folders
    for name in (LATE, WORD, KEYS, ROOTS_OWN):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    (folder / SENT).mkdir(exist_ok=True)
    (folder / SENT).chmod(0o755)
    folder.chmod(0o1777)


def give(source: pathlib.Path, place: pathlib.Path) -> None:
    """Copy root's file `source` to the new file `place`, readable only for the builder's user."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with source.open("rb") as file, os.fdopen(os.open(place, flags, 0o600), "wb") as copy:
        shutil.copyfileobj(file, copy)
        os.fchown(copy.fileno(), BUILDER_UID, BUILDER_UID)


def give_late(kept: pathlib.Path, folder: pathlib.Path) -> None:
    """Give the builder the late values in `kept`; it has reported that no other process runs.

    The change of the folder's owner to the builder signals that all values are there. Until then
    root owns it, and no agent can read or replace it.
    """
    late = folder / LATE
    for one in kept.iterdir():
        give(one, late / one.name)
    os.chown(late, BUILDER_UID, BUILDER_UID)


def give_keys(kept: pathlib.Path, folder: pathlib.Path) -> None:
    """Give the agent `push` the keys in `kept`, if there are any; no other agent may run then."""
    for one in kept.iterdir() if kept.exists() else ():
        give(one, folder / KEYS / one.name)
    os.chown(folder / KEYS, BUILDER_UID, BUILDER_UID)


def give_word(folder: pathlib.Path) -> None:
    """Let the builder fetch and build what it has planned (`agents/builder/word.py`)."""
    os.chown(folder / WORD, BUILDER_UID, BUILDER_UID)


def take(folder: pathlib.Path, path: str, name: str, into: str = TAKEN) -> pathlib.Path:
    """Take over the file `path` of the run's `folder` as `name` in its folder `into`.

    Returns its new path. Only root may write to `into`.
    No link in the path is followed. Raises `BuildError` if it is not a regular file.
    """
    parts = pathlib.PurePosixPath(path).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise BuildError(f"{path!r} is not a path in this run's folder")
    taken = folder / into
    if os.path.lexists(taken / name):
        raise BuildError(f"{name}: two files of this run have that name")
    with contextlib.ExitStack() as stack:

        def opened(place: str | pathlib.Path, above: int | None = None) -> int:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            descriptor = os.open(place, flags, dir_fd=above)
            stack.callback(os.close, descriptor)
            return descriptor

        try:
            here = opened(folder)
            for part in parts[:-1]:
                here = opened(part, here)
            os.rename(parts[-1], taken / name, src_dir_fd=here)
        except OSError as error:
            raise BuildError(f"{path!r} cannot be taken over: {error.strerror}") from error
    # From here on nobody else can replace the file.
    place = taken / name
    if not stat.S_ISREG(place.lstat().st_mode):
        raise BuildError(f"{path!r} is not a regular file")
    mode = 0o755 if place.lstat().st_mode & stat.S_IXUSR else 0o644
    os.chown(place, 0, 0)
    place.chmod(mode)
    return place
