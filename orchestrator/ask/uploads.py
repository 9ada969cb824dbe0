"""The caller's files and folders that run.sh has sent: their places, and checks of them.

Received files lie in the run's folder, below their paths on the caller's host.
"""

import dataclasses
import hashlib
import itertools
import os
import pathlib
import re
import shutil
import stat

from orchestrator.ask.request import Caller
from orchestrator.docker.workspace import BUILDER_UID, ROOTS_OWN
from orchestrator.shared.artifact import SBOM
from orchestrator.shared.errors import DeliveryError, UsageError
from orchestrator.shared.paths import ROOT
from orchestrator.shared.run import LATE, WORK
from orchestrator.shared.task import Commit
from orchestrator.shared.text import whole

#: Folder of the caller's files in a run's folder.
INPUT = "input"

#: File with the list of folders that were sent whole. run.sh sends it last: without it the upload
#: is incomplete.
TREES = ".trees"

#: File with the names in the output folder that no run made: they must not be replaced.
KEPT = ".kept"

#: Folder with the bills of materials of the newest images in the output folder.
EARLIER = ".earlier"

#: Folder with the results, checksums and signatures of whole images in the output folder.
DELIVERED = ".delivered"

#: File with the commits of sent folders. For each: the folder, the commit, its time, the number of
#: commits up to it, 1 if the folder has exactly the commit's files, and 1 if submodules were sent.
COMMITS = ".commits"
COMMIT_WORDS = 6

#: File with the folders whose copies are mounted (`run/kept_trees.py`). For each: the folder, the
#: key and the generation of its copy.
MOUNTED = ".mounted"
MOUNTED_WORDS = 3
HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")

#: Library for formats of nixos-generators that come without theirs.
LIBRARY = ROOT / "nix/format-library.nix"

#: Placeholder of an SSH key in the examples of config/.
PLACEHOLDER = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ +\.\.\.")


def received(who: Caller, path: pathlib.PurePosixPath) -> pathlib.Path:
    """Return the place of the caller's file `path` in this container."""
    return input_folder(who) / path.relative_to("/")


def input_folder(who: Caller) -> pathlib.Path:
    """Return the folder of all files that the caller has sent."""
    return WORK / who.run / INPUT


def list_folder(who: Caller) -> pathlib.Path:
    """Return the folder of run.sh's lists, which no agent may read."""
    return WORK / who.run / ROOTS_OWN


def take_lists(who: Caller) -> None:
    """Move run.sh's lists out of the upload folder, before an agent starts.

    They tell of files that nobody has named to be sent, such as those in the output folder.
    """
    folder = list_folder(who)
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in (TREES, KEPT, COMMITS, MOUNTED, EARLIER, DELIVERED):
        if os.path.lexists(place := input_folder(who) / name):
            place.rename(folder / name)


def keep_late(who: Caller, path: pathlib.PurePosixPath, kept: pathlib.Path) -> str:
    """Move the received file `path` to the folder `kept`; returns its later path in the builder.

    This happens before any agent starts: an evaluation may read the upload folder, and Nix may copy
    folders of it into its store.
    """
    kept.mkdir(exist_ok=True)
    source = pathlib.Path(os.path.realpath(received(who, path)))
    name = hashlib.sha256(os.fsencode(source)).hexdigest()
    if not (kept / name).exists():  # another option may have moved the same file already
        shutil.move(received_file(who, path), kept / name)
    return os.fspath(WORK / who.run / LATE / name)


def received_file(who: Caller, path: pathlib.PurePosixPath) -> pathlib.Path:
    """Return the received file `path`, with links resolved.

    It is moved away afterwards, not a link to it: a secret must not stay in a folder that was sent.
    """
    source = pathlib.Path(os.path.realpath(received(who, path)))
    if not source.is_relative_to(input_folder(who)) or not source.is_file():
        raise UsageError(f"{path}: was not sent", hint="name the file itself, not a link to it")
    return source


def trees(who: Caller) -> tuple[pathlib.Path, ...]:
    """Return the folders that were sent whole, innermost first."""
    try:
        names = os.fsdecode((list_folder(who) / TREES).read_bytes()).split("\0")[:-1]
    except FileNotFoundError:
        raise DeliveryError(
            "not all of the caller's files arrived",
            hint="repeat the command: a file that is removed while it is sent ends a run",
        ) from None
    found = {received(who, pathlib.PurePosixPath(name)) for name in names}
    return tuple(sorted(found, key=lambda tree: len(tree.parts), reverse=True))


@dataclasses.dataclass(frozen=True)
class Mounted:
    """A folder of the caller's whose copy is mounted: its path, key and generation."""

    path: pathlib.PurePosixPath
    key: str
    generation: str


def mounted(who: Caller) -> tuple[Mounted, ...]:
    """Return the folders whose copies are mounted; raises `DeliveryError` for odd words."""
    try:
        words = os.fsdecode((list_folder(who) / MOUNTED).read_bytes()).split("\0")[:-1]
    except FileNotFoundError:
        return ()
    if len(words) % MOUNTED_WORDS:
        raise DeliveryError("the list of folders that are kept is damaged")
    return tuple(
        Mounted(pathlib.PurePosixPath(path), key, generation)
        for path, key, generation in itertools.batched(words, MOUNTED_WORDS, strict=True)
    )


def kept(who: Caller) -> frozenset[str]:
    """Return the names of files in the output folder that no run made, if run.sh sent them."""
    try:
        names = (list_folder(who) / KEPT).read_bytes()
    except FileNotFoundError:
        return frozenset()
    return frozenset(os.fsdecode(names).split("\0")[:-1])


def keep_earlier(who: Caller, kept: pathlib.Path) -> None:
    """Move earlier images' bills of materials, if run.sh sent any, to the new folder `kept`."""
    sent = list_folder(who) / EARLIER
    if sent.is_dir(follow_symlinks=False):
        shutil.move(sent, kept)


def earlier_bills(kept: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Return the bills of materials of earlier images that `keep_earlier` has moved to `kept`."""
    found = kept.glob(f"*{SBOM}")
    return tuple(sorted(bill for bill in found if bill.is_file(follow_symlinks=False)))


def commit_of(who: Caller, tree: pathlib.Path) -> Commit | None:
    """Return the commit that the sent folder `tree` is based on, if run.sh knows one."""
    try:
        words = os.fsdecode((list_folder(who) / COMMITS).read_bytes()).split("\0")[:-1]
    except FileNotFoundError:
        return None
    told = {
        received(who, pathlib.PurePosixPath(name)): facts
        for name, *facts in itertools.batched(words, COMMIT_WORDS, strict=False)
    }
    match told.get(tree):
        case [revision, seconds, count, clean, modules] if (
            HASH.fullmatch(revision)
            and (when := whole(seconds)) is not None
            and (number := whole(count)) is not None
        ):
            return Commit(revision, when, number, clean=clean == "1", submodules=modules == "1")
    return None


def tree_of(path: pathlib.Path, sent: tuple[pathlib.Path, ...]) -> pathlib.Path:
    """Return the first folder of `sent` that contains `path`."""
    return next(tree for tree in sent if path.is_relative_to(tree))


def check_trees(who: Caller) -> None:
    """Refuse links that lead out of a sent folder; give all files to the builder's user.

    A link into the Nix store (`result` of `nix build`) is removed.
    """
    copies = {received(who, one.path) for one in mounted(who)}  # checked when they were made
    for tree in trees(who):
        if tree in copies:
            continue
        os.chown(tree, BUILDER_UID, BUILDER_UID, follow_symlinks=False)
        # fwalk uses descriptors: resolving each of nixpkgs' 90,000 paths from the root is slow.
        for folder, folders, files, descriptor in os.fwalk(tree):
            for name in (*folders, *files):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                os.chown(name, BUILDER_UID, BUILDER_UID, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    _check_link(who, tree, pathlib.Path(folder, name))
                elif not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                    place = pathlib.Path(folder, name).relative_to(input_folder(who))
                    raise UsageError(
                        f"/{place}: is not a file, folder or link", hint="move it out of the folder"
                    )


def forget_folder_times(tree: pathlib.Path) -> None:
    """Set the times of all folders in `tree` to 1970: only files and links have one to tell.

    Nix tells a flake the newest time in its folder, and a folder's changes with what is not sent:
    the output folder, a file that git ignores.
    """
    for _folder, _folders, _files, descriptor in os.fwalk(tree):
        os.utime(descriptor, (1, 1))


def add_library(who: Caller, format_path: pathlib.PurePosixPath) -> None:
    """Put nixos-generators' `lib.nix` where a format file imports it: the caller's, or else ours.

    A folder that was sent stays as it is: a flake's hash depends on it.
    """
    library = received(who, format_path.parent.parent / "lib.nix")
    if any(library.is_relative_to(tree) for tree in trees(who)):
        return
    if not library.exists():
        shutil.copyfile(LIBRARY, library)
    os.chown(library, BUILDER_UID, BUILDER_UID)


#: What to do where somebody has written no configuration.
INIT = (
    "./run.sh init writes an appliance.toml with your key, for this folder; or insert the key into"
    " that file"
)


def check_keys(who: Caller, configuration: pathlib.PurePosixPath) -> None:
    """Refuse an SSH key placeholder in the configuration file; evaluation finds any others."""
    try:
        text = received(who, configuration).read_text(errors="replace")
    except FileNotFoundError:
        raise UsageError(
            f"{configuration} was not sent", hint="check that git does not ignore it"
        ) from None
    for number, line in enumerate(text.splitlines(), 1):
        if PLACEHOLDER.search(line.partition("#")[0]):
            raise UsageError(
                f"{configuration}:{number}: the SSH key is a placeholder, nobody could log in",
                hint=INIT
                if configuration == who.root / "config/sd-card.nix"
                else "insert your key (cat ~/.ssh/id_ed25519.pub), or use --allow-no-login",
            )


def _check_link(who: Caller, tree: pathlib.Path, link: pathlib.Path) -> None:
    target = link.readlink()
    if target.is_relative_to("/nix/store"):
        link.unlink()
        return
    # An absolute link is made to lead to the copy in this container. One of a tree within
    # another tree has been changed already.
    if target.is_absolute() and not target.is_relative_to(input_folder(who)):
        link.unlink()
        link.symlink_to(received(who, pathlib.PurePosixPath(target)))
    if not pathlib.Path(os.path.realpath(link)).is_relative_to(tree):
        name = link.relative_to(input_folder(who))
        root = tree.relative_to(input_folder(who))
        raise UsageError(
            f"/{name}: links to {target}, which is not sent with /{root}",
            hint="replace the link by the file, or let git ignore it",
        )
