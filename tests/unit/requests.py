"""A caller, and requests with the command line's defaults, for tests."""

import pathlib

from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.shared.display import Display
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.nix_options import NixOptions

#: Public key of a binary cache.
CACHE_KEY = "example.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="

BUILD = Build(
    out=pathlib.PurePosixPath("/home/me/project/out"),
    force=False,
    boot=False,
    emulation="auto",
    qemu="",
    locked=False,
    strict=False,
    memory=0,
    emulation_timeout=60.0,
    boot_timeout=300.0,
    timeout=7 * 86400.0,
    dry_run=False,
    as_json=False,
    yes=False,
    debug_shell=False,
    sign=None,
    display=Display(),
    image=ImageOptions(),
    appliance=None,
    written=frozenset(),
    push=None,
    builders=(),
    configuration=pathlib.PurePosixPath("/checkout/config/sd-card.nix"),
    flake=None,
    attribute="",
    nixpkgs="",
    search_path=(),
    formats=("sd-aarch64",),
    format_paths=(),
    systems=(),
    root_fs=None,
    nix_options=NixOptions(),
    allow_no_login=False,
    ignore_hardware=False,
    boot_on_terminal=False,
)

DEMO = Demo(
    system="",
    format="raw-efi",
    root_fs="ext4",
    ssh_key=None,
    out=pathlib.PurePosixPath("/home/me/project/out"),
    force=False,
    boot=True,
    emulation="auto",
    qemu="",
    locked=False,
    strict=False,
    memory=0,
    emulation_timeout=60.0,
    boot_timeout=300.0,
    timeout=6 * 3600.0,
    dry_run=False,
    as_json=False,
    yes=False,
    debug_shell=False,
    sign=None,
    display=Display(),
    image=ImageOptions(),
    appliance=None,
    written=frozenset(),
    push=None,
    builders=(),
)

#: A caller on a Linux host without a terminal.
CALLER = Caller(
    cwd=pathlib.PurePosixPath("/home/me/project"),
    home=pathlib.PurePosixPath("/home/me"),
    root=pathlib.PurePosixPath("/checkout"),
    columns=0,
    out_kib=None,
    socket="/var/run/docker.sock",
    run="0badcafe",
    source="1-2",
    sparse=True,
    ca_bundle="",
    image="",
)
