"""A run's folders: one in the work volume, which its agents share, and one that nobody else sees.

A build's programs have the builder's user. Whatever that user may write is a link, a pipe or
another file a moment later. The orchestrator is root and holds the Docker socket: it writes only
what that user can neither move nor replace, and takes a file over before it looks at it.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import stat

from orchestrator.shared.errors import BuildError
from orchestrator.shared.run import LATE, WORK

#: In the run's shared folder: what was taken over from its agents. Root alone may change its names.
TAKEN = "taken"

#: Uid of the unprivileged user in the builder's and the boot image. An engine with userns-remap
#: moves the users of all containers but this one; how far, this image's files tell, which are
#: root's.
BUILDER_UID = pathlib.Path(__file__).stat().st_uid + 1000


@dataclasses.dataclass(frozen=True)
class Workspace:
    """`shared` is the run's folder in the work volume, `own` one of this container alone."""

    shared: pathlib.Path
    own: pathlib.Path

    @property
    def logs(self) -> pathlib.Path:
        """Where what builds of images say is kept."""
        return self.own / "logs"

    @property
    def variables(self) -> pathlib.Path:
        """Compose's variables: they say which images are started."""
        return self.own / "compose.env"

    @property
    def late(self) -> pathlib.Path:
        """Late values, kept from the run's agents until Nix has ended."""
        return self.own / "late"

    @property
    def nix_conf(self) -> pathlib.Path:
        """The caller's lines of a nix.conf, if there are any."""
        return self.own / "nix.conf"


def make_shared(run: str) -> pathlib.Path:
    """The folder of `run` in the work volume, for root alone until `open_to_agents`."""
    # Sticky, so that no agent moves the folder.
    os.chown(WORK, 0, 0)
    WORK.chmod(0o1777)
    folder = WORK / run
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def open_to_agents(folder: pathlib.Path) -> None:
    """Let agents make files in `folder`; sticky, so that what is there already stays as it is."""
    (folder / TAKEN).mkdir(exist_ok=True)  # in a second attempt they are there
    (folder / LATE).mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o1777)


def give(source: pathlib.Path, place: pathlib.Path) -> None:
    """Copy a file from root's own to the new `place`, for the builder's user alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with source.open("rb") as file, os.fdopen(os.open(place, flags, 0o600), "wb") as copy:
        shutil.copyfileobj(file, copy)
        os.fchown(copy.fileno(), BUILDER_UID, BUILDER_UID)


def give_late(kept: pathlib.Path, folder: pathlib.Path) -> None:
    """Give the builder the late values of the folder `kept`, once it has said that it is alone.

    That the run's `folder` for them is the builder's says that all are there: until then it is
    root's, and no agent can look into it or put another in its place.
    """
    late = folder / LATE
    for one in kept.iterdir():
        give(one, late / one.name)
    os.chown(late, BUILDER_UID, BUILDER_UID)


def take(folder: pathlib.Path, path: str, name: str) -> pathlib.Path:
    """Take the file `path` of the run's `folder` over as `name`; returns where it is now.

    Nothing on the way is followed. Raises `BuildError` for what is no ordinary file.
    """
    parts = pathlib.PurePosixPath(path).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise BuildError(f"{path!r} is no file of this run's")
    taken = folder / TAKEN
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
    # From here on nobody else can give the name to another file.
    place = taken / name
    if not stat.S_ISREG(place.lstat().st_mode):
        raise BuildError(f"{path!r} is no ordinary file")
    mode = 0o755 if place.lstat().st_mode & stat.S_IXUSR else 0o644
    os.chown(place, 0, 0)
    place.chmod(mode)
    return place
