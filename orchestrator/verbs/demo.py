"""`demo`: make a small bootable system of Debian packages."""

import argparse
import contextlib
import dataclasses
import os

from orchestrator.ask.appliance import add_appliance_options, read_appliance, with_late_values
from orchestrator.ask.builders import add_builders_option, builders_orders, read_builders
from orchestrator.ask.image_arguments import add_image_options, image_options
from orchestrator.ask.injections import check_others
from orchestrator.ask.nix_arguments import add_cache_options
from orchestrator.ask.orders import Orders, appliance_orders, image_orders
from orchestrator.ask.parser import (
    Parser,
    add_display_options,
    add_run_arguments,
    caller_path,
    run_arguments,
)
from orchestrator.ask.push_arguments import add_push_options, push_options
from orchestrator.ask.request import Caller, Demo
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES
from orchestrator.shared.demo_formats import FORMATS
from orchestrator.shared.errors import UsageError
from orchestrator.shared.filesystems import REFUSED, ROOTS
from orchestrator.shared.image_options import check_options
from orchestrator.shared.spec import SpecError
from orchestrator.shared.task import KEYS_FILE, USER_FILE
from orchestrator.verbs.registry import Session, Verb

TIMEOUT_SECONDS = 6 * 3600.0


def _parser() -> Parser:
    parser = Parser(
        "demo",
        "Build a small bootable system, deliver it to ./out, and boot it.",
        examples=(
            ("demo", "a UEFI disk for another CPU, into ./out"),
            ("demo --system riscv64-linux -f sd-riscv64", "an SD card for RISC-V"),
            ("demo --ssh-key key.pub --no-boot", "with your key; the image is not booted"),
            ("demo --dry-run", "only the plan"),
        ),
        often=(
            *("--system", "--format", "--ssh-key", "--host-name", "--wifi-ssid", "--no-boot"),
            *("--compress", "--inject", "--out", "--dry-run", "--quiet", "--verbose"),
        ),
    )
    parser.add_argument(
        "--system",
        choices=sorted(DEBIAN_ARCHITECTURES),
        help="target system (default: the one foreign to this host)",
    )
    parser.add_argument("-f", "--format", choices=sorted(FORMATS), default="raw-efi")
    parser.add_argument("--root-fs", choices=ROOTS, default="ext4")
    parser.add_argument(
        "--ssh-key", metavar="FILE", help="public keys that may log in (default: ~/.ssh/*.pub)"
    )
    add_cache_options(parser)
    add_appliance_options(parser)
    parser.add_argument("--no-boot", action="store_true", help="do not boot the image afterwards")
    add_run_arguments(parser, timeout=TIMEOUT_SECONDS)
    add_builders_option(parser)
    add_image_options(parser)
    add_push_options(parser)
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, who: Caller) -> Demo:
    if found.root_fs in REFUSED:
        raise UsageError(f"--root-fs {found.root_fs}: {REFUSED[found.root_fs]}", hint=found.help_of)
    image, written = image_options(found, who), frozenset[str]()
    if appliance := read_appliance(found, who):
        appliance = dataclasses.replace(appliance, machines=appliance.machines[:1])
        image, written = with_late_values(image, appliance)
        first = appliance.machines[0].name
        own = appliance.blueprint.image[first].host_name or first
        if not (image.host_name or image.stamp):
            image = dataclasses.replace(image, host_name=own)
    for one in image.injections:
        try:
            check_others(one.target, [f"/{USER_FILE}", f"/{KEYS_FILE}"])
        except ValueError as error:
            raise UsageError(
                f"--inject: {one.target} is the place of the demo's user and keys",
                hint="--ssh-key FILE, or [[users]] of appliance.toml, says who can log in",
            ) from error
    form = FORMATS[found.format]
    try:
        check_options(
            image,
            table=image.partition_table or form.partition_table,
            disk_format=image.disk_format or form.disk_format,
            root_fs=found.root_fs,
        )
    except SpecError as error:
        raise UsageError(str(error), hint=found.help_of) from error
    return Demo(
        system=found.system or "",
        format=found.format,
        root_fs=found.root_fs,
        ssh_key=None if found.ssh_key is None else caller_path(found.ssh_key, who),
        boot=not found.no_boot,
        substituters=tuple(found.substituters),
        trusted_keys=tuple(found.trusted_keys),
        image=image,
        appliance=appliance,
        written=written,
        push=push_options(found, who),
        builders=read_builders(found.builders, appliance, who),
        **run_arguments(found, who),
    )


def _orders(request: Demo) -> Orders:
    key = request.ssh_key
    keys = [["send", "--ssh-key", os.fspath(key)]] if key else [["send_keys"]]
    if not key and request.appliance and request.appliance.blueprint.users:
        keys = appliance_orders(request)
    return [*image_orders(request), *builders_orders(request), *keys]


def _work(request: Demo, session: Session) -> int:
    from orchestrator.run.make_images import make_images
    from orchestrator.shared.progress import make_progress

    who = session.who
    with contextlib.closing(make_progress(request.display, who.terminal)) as progress:
        if request.appliance:
            progress.say(f"host name, user, keys, Wi-Fi and files: {request.appliance.path}")
        make_images(request, who, progress, session.stream, session.began)
    return 0


VERB = Verb(
    group="make images",
    shown=(("demo [OPTIONS]", "build a small bootable system for another CPU, and boot it"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
)
