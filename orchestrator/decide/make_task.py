"""Makes the builder's task from a request; paths on the caller's host become the builder's."""

import dataclasses
import os
import pathlib
import shutil
import urllib.parse

from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.ask.uploads import (
    add_library,
    check_keys,
    check_trees,
    commit_of,
    forget_folder_times,
    input_folder,
    keep_earlier,
    mounted,
    received,
    received_file,
    tree_of,
    trees,
)
from orchestrator.decide.blueprint_modules import demo_keys, demo_user, machines
from orchestrator.decide.late_files import late_facts, move_late, read_late
from orchestrator.decide.plan import Plan
from orchestrator.decide.sent_keys import forget_keys, keep_builders, take_keys
from orchestrator.docker.workspace import Workspace
from orchestrator.shared.architectures import this_system
from orchestrator.shared.task import Commit, DemoTask, NixosTask, Task

#: NixOS option of `nixosImage` for each image option that the configuration must know, too.
DISK = {
    "partition_table": "partitionTableType",
    "disk_size": "diskSize",
    "boot_size": "bootSize",
    "additional_space": "additionalSpace",
    "disk_format": "format",
    "compression": "compression",
}


def make_task(request: Demo | Build, plan: Plan, who: Caller, workspace: Workspace) -> Task:
    """Return the builder's task for `plan`; raises `UsageError` if a sent file is unusable.

    Secret files are moved from the shared folder of `workspace` to its private one.
    """
    devices = read_late(request.image, who)
    keep_earlier(who, workspace.bills)
    if isinstance(request, Demo):
        work: DemoTask | NixosTask = _demo(request, plan, who)
    else:
        work = dataclasses.replace(
            _nixos(request, plan, who), late=late_facts(request.image, devices)
        )
    ca_bundle = ""
    if who.ca_bundle:  # only after check_trees: this read follows links
        bundle = workspace.shared / "ca-bundle.crt"
        bundle.write_bytes(received(who, pathlib.PurePosixPath(who.ca_bundle)).read_bytes())
        ca_bundle = os.fspath(bundle)
    if isinstance(request, Build) and (nix_conf := request.nix_options.nix_conf):
        workspace.nix_conf.touch(mode=0o600)
        shutil.copyfile(received_file(who, pathlib.PurePosixPath(nix_conf)), workspace.nix_conf)
    take_keys(request, who, workspace.keys)
    keep_builders(request, who, workspace)
    named = [device.host for device in devices if device.host]
    options = move_late(request.image, who, workspace.late, named)
    forget_keys(request, who)
    if isinstance(request, Build):
        _settle(who)
    return Task(
        work=work,
        leased=plan.mode == "shared",
        foreign=plan.foreign,
        private=plan.private,
        strict=request.strict,
        keep_failed=request.debug_shell,
        wait_seconds=request.emulation_timeout,
        ca_bundle=ca_bundle,
        options=options,
        late=workspace.late.exists(),
        asks=not request.dry_run,
        verbose=request.display.detail == "verbose",
        elsewhere=_elsewhere(request, plan) if request.dry_run else (),
        stranger=request.push.stranger if request.push and not request.dry_run else "",
    )


def _settle(who: Caller) -> None:
    """Make the sent folders' times independent of the run, now that nothing in them changes."""
    copies = {received(who, one.path) for one in mounted(who)}  # they are mounted read-only
    for tree in trees(who):
        if tree not in copies:
            forget_folder_times(tree)


def _elsewhere(request: Demo | Build, plan: Plan) -> tuple[str, ...]:
    """Return the systems that builders build for: other ones than this computer's, and its own."""
    own = this_system()
    also = any(own in one.systems for one in request.builders)
    return (*plan.remote, *((own,) if also else ()))


def with_plan(task: Task, plan: Plan) -> Task:
    """Return `task` for another `plan` of the same systems."""
    return dataclasses.replace(
        task, leased=plan.mode == "shared", foreign=plan.foreign, private=plan.private
    )


def _demo(request: Demo, plan: Plan, who: Caller) -> DemoTask:
    return DemoTask(
        system=plan.systems[0],
        format=request.format,
        root_fs=request.root_fs,
        authorized_keys=demo_keys(request, who),
        user=demo_user(request),
        locked=request.locked,
        dry_run=request.dry_run,
        substituters=request.substituters,
        trusted_keys=request.trusted_keys,
    )


def _nixos(request: Build, plan: Plan, who: Caller) -> NixosTask:
    check_trees(who)
    configuration = request.configuration
    if configuration and received(who, configuration).is_dir():
        configuration /= "default.nix"
    if configuration and not request.allow_no_login:
        check_keys(who, configuration)

    def here(path: pathlib.PurePosixPath | str | None) -> str:
        return os.fspath(received(who, path)) if isinstance(path, pathlib.PurePosixPath) else ""

    def here_or_as_it_is(path: pathlib.PurePosixPath | str) -> str:
        return path if isinstance(path, str) else here(path)

    format_paths = {path.stem: here(path) for path in request.format_paths}
    for path in request.format_paths:
        add_library(who, path)
    told = {name: getattr(request.image, option) for option, name in DISK.items()}
    given = {
        name: "auto" if value == 0 else value for name, value in told.items() if value is not None
    }
    given |= {"fsType": request.root_fs} if request.root_fs else {}
    given |= {"allowNoLogin": True} if request.allow_no_login else {}
    given |= {"ignoreHardware": True} if request.ignore_hardware else {}
    return NixosTask(
        systems=plan.systems,
        systems_given=bool(request.systems),
        name=configuration_name(configuration),
        formats=(*request.formats, *format_paths),
        format_paths=format_paths,
        configuration=here(configuration),
        flake=_flake(request, who),
        attribute=request.attribute,
        nixpkgs="" if request.flake else here_or_as_it_is(request.nixpkgs),
        computer=who.computer,
        overrides=_overrides(request, who),
        commit=_commit(request, who),
        search_path=tuple((name, here_or_as_it_is(path)) for name, path in request.search_path),
        disk=given,
        # nix.conf is not in the task, because it may have secrets: Nix gets it by a pipe.
        nix_options=dataclasses.replace(
            request.nix_options,
            nix_conf="",
            show_trace=request.nix_options.show_trace or request.display.detail == "verbose",
        ),
        dry_run=request.dry_run,
        sources=os.fspath(input_folder(who)),
        machines=machines(request, who),
    )


def configuration_name(configuration: pathlib.PurePosixPath | None) -> str:
    """Return what images of a file are named after if it sets no host name; of a flake nothing.

    The name is the file's, or for `default.nix` its folder's; nix/file-name.nix cleans it.
    """
    if not configuration:
        return ""
    name = configuration.name.removesuffix(".nix")
    return configuration.parent.name if name == "default" else name


def _flake(request: Build, who: Caller) -> str:
    """Return the flake reference for the builder; a path becomes that of its sent copy."""
    if not isinstance(request.flake, pathlib.PurePosixPath):
        return request.flake or ""
    folder = received(who, request.flake)
    folder = (folder.parent if folder.is_file() else folder) / request.flake_folder
    tree = tree_of(folder, trees(who))
    # As Nix does, take the folder above that has the flake, if there is one.
    above = (one for one in (folder, *folder.parents) if (one / "flake.nix").exists())
    found = next(above, folder)
    folder = found if found.is_relative_to(tree) and not request.flake_folder else folder
    return _reference(tree, folder.relative_to(tree))


def _commit(request: Build, who: Caller) -> Commit | None:
    """Return the commit of the repository that the flake lies in."""
    if not isinstance(request.flake, pathlib.PurePosixPath):
        return None
    return commit_of(who, tree_of(received(who, request.flake), trees(who)))


def _overrides(request: Build, who: Caller) -> tuple[tuple[str, str], ...]:
    """Return the inputs of the flake that are replaced, with references for the builder."""
    named = request.overrides
    if request.flake and request.nixpkgs:
        named = (("nixpkgs", request.nixpkgs, ""), *named)
    return tuple(
        (
            name,
            place
            if isinstance(place, str)
            else _reference(received(who, place), pathlib.PurePosixPath(folder)),
        )
        for name, place, folder in named
    )


def _reference(tree: pathlib.Path, inside: pathlib.PurePath) -> str:
    """Return Nix' reference of the flake in the folder `inside` of a sent `tree`."""
    query = f"?dir={urllib.parse.quote(str(inside))}" if inside.parts else ""
    return f"path:{urllib.parse.quote(os.fspath(tree))}{query}"
