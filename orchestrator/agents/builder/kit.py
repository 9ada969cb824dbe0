"""Agent kit: fetches what the demo is made of, packs store paths for a kit, and unpacks them.

Its argument is a JSON object; `KitOrder` has the fields. The verb `kit` starts it: to pack in a
container in which no build ever ran, because there it may read the key; to unpack without a
network.
"""

import os
import pathlib
import re
import shutil
import sys
import tarfile
import tempfile
import typing

from orchestrator.agents import events, room
from orchestrator.agents.builder import collect, demo, holdings, nixos, push, sandbox
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import CACHE_KEY, Settings
from orchestrator.agents.failure import AgentError, disk_full, run_agent
from orchestrator.shared import command
from orchestrator.shared.json_reader import from_json, read_json
from orchestrator.shared.kit import ROOTS, STORE, KitOrder
from orchestrator.shared.push import KEYS
from orchestrator.shared.run import this_run
from orchestrator.shared.task import DemoTask

#: Names of the files of a binary cache in a folder.
CACHE_FILES = re.compile(
    r"nix-cache-info|[0-9a-z]{32}\.narinfo|nar/[0-9a-z]{52}\.nar(\.zst)?|" + ROOTS
)

#: A store path.
STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[0-9A-Za-z+._?=-]{1,211}")

#: Longest list of ROOTS that is read, in bytes.
LARGEST = 1 << 20


def main() -> None:
    """Run `kit` as the main function of its container."""
    run_agent("kit", kit)


def kit() -> None:
    """Do what the first argument asks for."""
    order = from_json(KitOrder, read_json(sys.argv[1], "order"), "order")
    folder = this_run().folder
    {"inputs": inputs, "pack": pack, "unpack": unpack}[order.action](order, folder)


# --- export ---------------------------------------------------------------------------------------


def inputs(order: KitOrder, _shared: pathlib.Path) -> None:
    """Have the unpacked packages of the demo for each system; report their store paths.

    They are fixed by their hashes, so whoever gets them needs to trust nobody. Raises `AgentError`
    for the name of a result that is not there, before anything is fetched.
    """
    for name in order.results:
        _result(name)
    settings = Settings(sandbox=True, sandbox_paths=(demo.UNPACKER,))
    _view, cause = sandbox.examine(Nix(settings, pathlib.Path(os.devnull)), sandbox.USER)
    if cause:
        settings = Settings()
    found: list[str] = []
    with collect.in_use():
        for system in order.systems:
            wanted = demo.pinned(DemoTask(system))
            try:
                found += _trees(wanted, settings)
            except AgentError:
                # The lock's packages and no others: the demo looks for these where it is offline.
                found += _trees(demo.located(wanted, locked=True), settings)
    events.emit("inputs", message=None, paths=sorted(set(found)))


def _trees(wanted: demo.DemoInputs, settings: Settings) -> list[str]:
    """Have Nix fetch and unpack; return the store paths. Raises `AgentError`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(wanted.to_json())
        file.flush()
        words = ["nix", "build", "--no-link", "--print-out-paths", "--file", str(demo.EXPRESSION)]
        words += ["--argstr", "inputs", file.name, "trees"]
        done = command.run(words, variables=settings.environment(), fails=AgentError)
    return done.text.split()


def pack(order: KitOrder, shared: pathlib.Path) -> None:
    """Put the closures of the paths and results into an archive: a signed binary cache's files.

    `shared` is the run's folder, which has the key and gets the archive.
    """
    os.environ["NIX_CONFIG"] = "experimental-features = nix-command\nbuild-users-group =\n"
    results = [_result(name) for name in order.results]
    roots = [*order.paths, *results, *(nixos.pinned_tree() if results else ())]
    paths = {*roots, *(path for result in results for path in built_of(result))}
    with tempfile.TemporaryDirectory(dir=shared) as place:
        folder = pathlib.Path(place)
        with push.target(f"file://{folder}", shared / KEYS) as to, collect.in_use():
            command.run(["nix", "copy", "--to", to.url, *sorted(paths)], fails=AgentError)
        (folder / ROOTS).write_text("".join(f"{path}\n" for path in roots))
        count = sum(1 for _ in folder.glob("*.narinfo"))
        with tarfile.open(shared / STORE, "w", format=tarfile.USTAR_FORMAT) as archive:
            for file in sorted(one for one in folder.rglob("*") if one.is_file()):
                archive.add(file, os.fspath(file.relative_to(folder)), filter=_plain)
    events.emit("packed", message=f"store paths packed: {count}", count=count)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who made a file, and when."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime, member.mode = 0, 0o644
    return member


def _result(name: str) -> str:
    """Return the store path of the newest result `name`; raises `AgentError`."""
    roots = collect.by_age(collect.roots())[::-1]
    for root in roots:
        if name in (holdings.image_name(root), root.name, os.fspath(root.readlink())):
            return os.fspath(root.readlink())
    there = ", ".join(dict.fromkeys(map(holdings.image_name, roots))) or "none"
    raise AgentError(
        f"--with {name}: no recent result has this name (there are: {there})",
        hint="build the image first, then name it as ./run.sh store does",
        kind="usage",
    )


def built_of(result: str) -> list[str]:
    """Return what `result` was built of and is in the store: sources, outputs of each step.

    With them a configuration that is changed a little builds where nothing can be fetched.
    """
    deriver = command.run(["nix-store", "--query", "--deriver", result], fails=AgentError)
    drv = deriver.text.strip()
    if not pathlib.Path(drv).is_file():
        return []
    words = ["nix-store", "--query", "--requisites", "--include-outputs", drv]
    found = command.run(words, fails=AgentError).text.split()
    return [path for path in found if not path.endswith(".drv")]


# --- import ---------------------------------------------------------------------------------------


def unpack(order: KitOrder, shared: pathlib.Path) -> None:
    """Put the store paths of an archive into the store, and keep them there.

    The archive may be anybody's: its files have no other names than those of a binary cache, and
    Nix takes only what is signed with the key, or fixed by its hash.
    """
    settings = Settings(trusted_keys=(CACHE_KEY, *((order.key,) if order.key else ())))
    os.environ["NIX_CONFIG"] = settings.text()
    with tempfile.TemporaryDirectory(dir=shared) as place:
        folder = pathlib.Path(place)
        with (shared / STORE).open("rb") as file:
            extract(file, folder)
        count = sum(1 for _ in folder.glob("*.narinfo"))
        words = ["nix", "copy", "--from", f"file://{folder}", "--all"]
        with collect.in_use():
            done = command.run(words, check=False)
            if done.code != 0:
                if room.said(done.stderr.decode(errors="replace")):
                    raise disk_full(done.last)
                raise AgentError(
                    f"the kit's store paths are refused: {done.last.removeprefix('error: ')}",
                    hint="nothing of them is used; have the kit made again",
                    kind="verification",
                )
            keep(folder / ROOTS)
    events.emit("unpacked", message=f"store paths from the kit: {count}", count=count)


def extract(file: typing.BinaryIO, folder: pathlib.Path) -> None:
    """Unpack the files of a binary cache to `folder`; raises `AgentError` for anything else."""
    (folder / "nar").mkdir()
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.type == tarfile.REGTYPE else None
                if content is None or not CACHE_FILES.fullmatch(member.name):
                    raise AgentError(
                        f"the kit's store has a member that is no file of a cache: {member.name!r}",
                        kind="verification",
                    )
                with (folder / member.name).open("xb") as copy:
                    shutil.copyfileobj(content, copy, 1 << 20)
    except (tarfile.TarError, FileExistsError) as error:
        raise AgentError(f"the kit's store is damaged: {error}", kind="verification") from error


def keep(listed: pathlib.Path) -> None:
    """Keep the store paths in the list, in place of those of an earlier kit."""
    lines = listed.read_bytes()[:LARGEST].decode(errors="replace").splitlines()
    collect.KIT_ROOTS.mkdir(exist_ok=True)
    for old in collect.kit_roots():
        old.unlink()
    for line in lines:
        path = pathlib.Path(line)
        if STORE_PATH.fullmatch(line) and path.exists():
            (collect.KIT_ROOTS / path.name).symlink_to(path)


if __name__ == "__main__":
    main()
