"""Requests as the command line makes them where nothing is asked for."""

import pathlib

from orchestrator.image.options import ImageOptions
from orchestrator.request import Build

BUILD = Build(
    out=pathlib.PurePosixPath("/home/me/project/out"),
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
    sign=None,
    log_format="auto",
    image=ImageOptions(),
    configuration=pathlib.PurePosixPath("/checkout/config/sd-card.nix"),
    flake=None,
    attribute="",
    nixpkgs="",
    search_path=(),
    formats=("sd-aarch64",),
    format_paths=(),
    systems=(),
    root_fs=None,
    options=(),
    arguments=(),
    substituters=(),
    trusted_keys=(),
    cores=None,
    show_trace=False,
    allow_no_login=False,
    run=False,
)
