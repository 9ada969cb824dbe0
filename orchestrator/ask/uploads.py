"""The caller's files and folders, once run.sh has sent them: where they are, and what is refused.

They lie in the run's folder under the paths that they have on the caller's host.
"""

import hashlib
import os
import pathlib
import re
import shutil
import stat

from orchestrator.ask.request import Caller
from orchestrator.docker.workspace import BUILDER_UID
from orchestrator.shared.errors import DeliveryError, UsageError
from orchestrator.shared.run import LATE, WORK

#: Beside what was sent: the folders that were sent whole. It comes last, so all has come with it.
TREES = ".trees"

#: How config/ writes a key that is still to be filled in.
PLACEHOLDER = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ +\.\.\.")


def received(who: Caller, path: pathlib.PurePosixPath) -> pathlib.Path:
    """Where the caller's file `path` is."""
    return input_folder(who) / path.relative_to("/")


def input_folder(who: Caller) -> pathlib.Path:
    """Where all of the caller's files are."""
    return WORK / who.run / "input"


def keep_late(who: Caller, path: pathlib.PurePosixPath, kept: pathlib.Path) -> str:
    """Keep the received file `path` in the folder `kept`; returns where the builder finds it later.

    It is taken away from where it was, before any agent starts: an evaluation reads there, and it
    may be in a folder which Nix copies into its store.
    """
    kept.mkdir(exist_ok=True)
    source = pathlib.Path(os.path.realpath(received(who, path)))
    name = hashlib.sha256(os.fsencode(source)).hexdigest()
    if not (kept / name).exists():  # two options may name the same file
        shutil.move(received_file(who, path), kept / name)
    return os.fspath(WORK / who.run / LATE / name)


def received_file(who: Caller, path: pathlib.PurePosixPath) -> pathlib.Path:
    """The file that `path` is, to be taken away.

    Where it is a link in a folder that was sent, too, it is that file which must not stay there.
    """
    source = pathlib.Path(os.path.realpath(received(who, path)))
    if not source.is_relative_to(input_folder(who)) or not source.is_file():
        raise UsageError(f"{path}: is not sent", hint="name the file itself, not a link to it")
    return source


def trees(who: Caller) -> tuple[pathlib.Path, ...]:
    """The folders that were sent whole, longest path first."""
    try:
        names = os.fsdecode((input_folder(who) / TREES).read_bytes()).split("\0")[:-1]
    except FileNotFoundError:
        raise DeliveryError("not all of the caller's files arrived") from None
    found = {received(who, pathlib.PurePosixPath(name)) for name in names}
    return tuple(sorted(found, key=lambda tree: len(tree.parts), reverse=True))


def tree_of(path: pathlib.Path, sent: tuple[pathlib.Path, ...]) -> pathlib.Path:
    """The one of `sent` that `path` is in."""
    return next(tree for tree in sent if path.is_relative_to(tree))


def check_trees(who: Caller) -> None:
    """Refuse links that lead out of what was sent; give all of it to the builder's user.

    A link into a Nix store is what `nix build` leaves behind: it goes, nothing refers to it.
    """
    for tree in trees(who):
        os.chown(tree, BUILDER_UID, BUILDER_UID, follow_symlinks=False)
        # By descriptors: a nixpkgs has 90,000 entries, and each would be looked up from the root.
        for folder, folders, files, descriptor in os.fwalk(tree):
            for name in (*folders, *files):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                os.chown(name, BUILDER_UID, BUILDER_UID, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    _check_link(who, tree, pathlib.Path(folder, name))
                elif not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                    place = pathlib.Path(folder, name).relative_to(input_folder(who))
                    raise UsageError(
                        f"/{place}: is no file, folder or link", hint="put it somewhere else"
                    )


def check_keys(who: Caller, configuration: pathlib.PurePosixPath) -> None:
    """Refuse a placeholder for a key right away; whatever else is one, the evaluation will find."""
    try:
        text = received(who, configuration).read_text(errors="replace")
    except FileNotFoundError:
        raise UsageError(f"{configuration} was not sent", hint="does git ignore it?") from None
    for number, line in enumerate(text.splitlines(), 1):
        if PLACEHOLDER.search(line.partition("#")[0]):
            raise UsageError(
                f"{configuration}:{number}: the SSH key is a placeholder: nobody could log in",
                hint="put yours there (cat ~/.ssh/id_ed25519.pub), or --allow-no-login",
            )


def _check_link(who: Caller, tree: pathlib.Path, link: pathlib.Path) -> None:
    target = link.readlink()
    if target.is_relative_to("/nix/store"):
        link.unlink()
        return
    # By the caller's path, which is another in here; of a tree in a tree it has been seen to.
    if target.is_absolute() and not target.is_relative_to(input_folder(who)):
        link.unlink()
        link.symlink_to(received(who, pathlib.PurePosixPath(target)))
    if not pathlib.Path(os.path.realpath(link)).is_relative_to(tree):
        name = link.relative_to(input_folder(who))
        root = tree.relative_to(input_folder(who))
        raise UsageError(
            f"/{name}: links to {target}, which is not sent with /{root}",
            hint="put the file itself there, or have git ignore it",
        )
