"""Makes the builder's task from a request; paths on the caller's host become the builder's."""

import dataclasses
import os
import pathlib
import shutil
import typing
import urllib.parse

from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.ask.ssh_keys import fingerprints, is_public_key
from orchestrator.ask.uploads import (
    add_library,
    check_keys,
    check_trees,
    commit_of,
    input_folder,
    keep_earlier,
    keep_late,
    received,
    received_file,
    tree_of,
    trees,
)
from orchestrator.decide import identities
from orchestrator.decide.blueprint_modules import demo_keys, demo_user, machines
from orchestrator.decide.plan import Plan
from orchestrator.docker.workspace import Workspace
from orchestrator.image.late import Device, one_device, read_devices
from orchestrator.shared import command
from orchestrator.shared.builders import Keyed, write_keyed
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.push import (
    CA_BUNDLE,
    CREDENTIALS,
    KINDS,
    SIGN_KEY,
    Push,
    aws_keys,
    public_key,
)
from orchestrator.shared.spec import SpecError
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
    options = _options(request.image, who, workspace.late, named)
    forget_keys(request, who)
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
        elsewhere=plan.remote if request.dry_run else (),
        stranger=request.push.stranger if request.push and not request.dry_run else "",
    )


def with_plan(task: Task, plan: Plan) -> Task:
    """Return `task` for another `plan` of the same systems."""
    return dataclasses.replace(
        task, leased=plan.mode == "shared", foreign=plan.foreign, private=plan.private
    )


def keep_builders(request: Demo | Build, who: Caller, workspace: Workspace) -> None:
    """Copy the builders' SSH keys, which run.sh has sent, to the private folder of `workspace`."""
    if request.dry_run or not request.builders:
        return
    secrets: dict[str, str] = {}
    for key in dict.fromkeys(one.key for one in request.builders):
        source = received_file(who, pathlib.PurePosixPath(key))
        secrets[key] = source.read_text(errors="replace")
    keyed = tuple(Keyed(one, secrets[one.key]) for one in request.builders)
    workspace.builders.touch(mode=0o600)
    workspace.builders.write_text(write_keyed(keyed))


def key_paths(request: Demo | Build) -> set[str]:
    """Return the paths of the keys of --push and of builders that this run uses, and --nix-conf."""
    pushed = request.push.files.values() if request.push else ()
    builders = () if request.dry_run else (one.key for one in request.builders)
    conf = request.nix_options.nix_conf if isinstance(request, Build) else ""
    return {*pushed, *builders, *([conf] if conf else [])}


def forget_keys(request: Demo | Build, who: Caller) -> None:
    """Remove the keys and --nix-conf, which `make_task` has copied.

    They must be in no folder that an evaluation may read. One file may be several keys, and a late
    value, which is moved away.
    """
    for path in key_paths(request):
        sent = os.path.realpath(received(who, pathlib.PurePosixPath(path)))
        pathlib.Path(sent).unlink(missing_ok=True)


def hosts(options: ImageOptions, workspace: Workspace) -> tuple[str, ...]:
    """Return the host names in the names of a task's images; an empty one if it has none."""
    if not options.stamp:
        return (options.host_name,)
    kept = workspace.late / pathlib.PurePosixPath(options.stamp).name
    text = kept.read_text("utf-8-sig", errors="replace")
    return tuple(device.host for device in read_devices(text))


def take_keys(request: Demo | Build, who: Caller, place: pathlib.Path) -> None:
    """Copy the keys of --push to the folder `place`; raises `UsageError` for a wrong one."""
    push = request.push
    if not push or not push.files:
        return
    place.mkdir()
    for name, path in ((SIGN_KEY, push.sign_key), (CREDENTIALS, push.credentials)):
        if path:
            (place / name).touch(mode=0o600)
            shutil.copyfile(received_file(who, pathlib.PurePosixPath(path)), place / name)
    try:
        public_key((place / SIGN_KEY).read_bytes())
    except ValueError:
        raise UsageError(
            f"--sign-key {push.sign_key}: not a secret key of Nix",
            hint="nix key generate-secret --key-name NAME makes one",
        ) from None
    if push.credentials:
        check_credentials(push, place / CREDENTIALS)
    if who.ca_bundle:
        bundle = received(who, pathlib.PurePosixPath(who.ca_bundle))
        (place / CA_BUNDLE).write_bytes(bundle.read_bytes())


def check_credentials(push: Push, file: pathlib.Path) -> None:
    """Raise `UsageError` unless `file` has what the target of --push asks for."""
    scheme = urllib.parse.urlsplit(push.url).scheme
    wrong = ""
    if scheme == "s3":
        try:
            aws_keys(file.read_text(errors="replace"), push.url)
        except ValueError as error:
            wrong = str(error)
    elif scheme == "ssh-ng":
        file.chmod(0o600)  # ssh-keygen takes no key that others may read
        done = command.run(["ssh-keygen", "-y", "-P", "", "-f", file], check=False)
        wrong = "" if done.code == 0 else "it is no private key, or has a passphrase"
    if wrong:
        raise UsageError(
            f"--push-credentials {push.credentials}: {wrong}",
            hint=f"{scheme}: takes {KINDS[scheme].credentials}",
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


def _options(
    options: ImageOptions, who: Caller, kept: pathlib.Path, hosts: list[str]
) -> ImageOptions:
    """Replace the caller's paths of late files by their later paths in the builder.

    The seed of identities is replaced by the identities of the devices `hosts`.
    """
    if options.identity_seed:
        _derive(_seed(options, who), hosts)

    def here(path: str) -> str:
        return keep_late(who, pathlib.PurePosixPath(path), kept) if path else ""

    return dataclasses.replace(
        options,
        injections=tuple(
            dataclasses.replace(one, source=here(one.source)) for one in options.injections
        ),
        stamp=here(options.stamp),
        identity_seed=here(options.identity_seed),
        wifi_password_file=here(options.wifi_password_file),
        secure_boot_key=here(options.secure_boot_key),
        secure_boot_cert=here(options.secure_boot_cert),
    )


def _seed(options: ImageOptions, who: Caller) -> pathlib.Path:
    """Return the received seed of identities.

    Raises `UsageError` if another option names the file, too: that would get the identities.
    """

    def place(path: str) -> pathlib.Path:
        return received_file(who, pathlib.PurePosixPath(path))

    seed = place(options.identity_seed)
    others = (
        *(one.source for one in options.injections),
        *(options.stamp, options.wifi_password_file),
        *(options.secure_boot_key, options.secure_boot_cert),
    )
    if seed in [place(path) for path in others if path]:
        raise UsageError(
            f"--identity-seed {options.identity_seed}: another option names this file, too",
            hint="the seed is in no image; make one, and keep it: openssl rand -hex 32 > seed",
        )
    return seed


def _derive(file: pathlib.Path, hosts: list[str]) -> None:
    """Replace the seed in `file` by the identities of the devices `hosts`.

    So the seed, which could tell the identities of further devices, gets nowhere else.
    """
    seed = identities.seed_of(file.read_bytes())
    if fingerprints(seed.decode(errors="replace")):
        raise UsageError(
            "--identity-seed: the file has a public key, which is no secret",
            hint="make one, and keep it: openssl rand -hex 32 > seed",
        )
    text = identities.derive(seed, hosts)
    file.unlink()
    file.touch(mode=0o600)
    file.write_text(text)


def late_facts(options: ImageOptions, devices: list[Device]) -> dict[str, typing.Any]:
    """Return what the configuration must know of late values: which there are, not what they are.

    The fields are those of `nixosImage.late`; {} without late values.
    """
    found = {
        "hostName": any(device.host for device in devices),
        "keyUsers": sorted({device.user for device in devices if device.ssh_key}),
        "everyDeviceHasKey": all(device.ssh_key for device in devices),
        "wifi": any(device.wifi_ssid for device in devices),
        "identity": bool(options.identity_seed),
        "injected": [one.target for one in options.injections],
    }
    return found if any(found.values()) else {}


def read_late(options: ImageOptions, who: Caller) -> list[Device]:
    """Read the late values that run.sh has sent; raises `UsageError` before anything is built."""

    def sent(path: str) -> pathlib.Path:
        return received_file(who, pathlib.PurePosixPath(path))

    try:
        if options.stamp:
            text = sent(options.stamp).read_text("utf-8-sig", errors="replace")
            return read_devices(text, is_public_key)
        password = options.wifi_password_file and os.fspath(sent(options.wifi_password_file))
        return [one_device(dataclasses.replace(options, wifi_password_file=password))]
    except SpecError as error:
        hint = "docs/images.md explains late values"
        raise UsageError(str(error), hint=hint) from error
