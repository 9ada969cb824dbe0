"""A small made-up system in the real Nix store of the test image."""

import contextlib
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

from orchestrator.shared.spec import BootLoader, Extlinux, Fat, ImageSpec, Root


def run(*command: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


def add(path: pathlib.Path) -> str:
    return run("nix-store", "--add", str(path))


@contextlib.contextmanager
def poisoned(file: str, more: bytes = b"poison") -> Iterator[None]:
    """Append `more` bytes to `file` of the store, as a build without a sandbox could."""
    path = pathlib.Path(file)
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(before + more)
    try:
        yield
    finally:
        path.write_bytes(before)
        path.chmod(0o444)


def made_up(folder: pathlib.Path) -> ImageSpec:
    """Make a system of kernel, initrd and loader, whose toplevel names them without a reference."""
    parts = {}
    for name, content in (("kernel", "kernel"), ("initrd", "initrd"), ("loader.efi", "loader")):
        (folder / name).write_text(content * 1000)
        parts[name] = add(folder / name)
    dtbs = folder / "dtbs"
    dtbs.mkdir()
    (dtbs / "board.dtb").write_text("tree")
    boot = {
        "system": "aarch64-linux",
        "label": "made up",
        "kernel": parts["kernel"],
        "initrd": parts["initrd"],
        "init": "/nix/store/x/init",
        "kernelParams": ["quiet"],
        "toplevel": "/nix/store/x",
    }
    toplevel = folder / "toplevel"
    toplevel.mkdir()
    (toplevel / "boot.json").write_text(json.dumps({"org.nixos.bootspec.v1": boot}))
    (toplevel / "ünï cödé").write_text("a name")
    (toplevel / "link").symlink_to("boot.json")
    return ImageSpec(
        schema=1,
        name="made-up",
        system="aarch64-linux",
        toplevel=add(toplevel),
        format="test",
        partitionTable="efi",
        bootLoader=BootLoader(
            timeout=1, systemdBoot=parts["loader.efi"], extlinux=Extlinux(deviceTree=False)
        ),
        root=Root("ext4", "nixos", additionalSpaceMiB=8),
        boot=Fat("ESP", 40),
        additionalPaths=tuple(parts.values()),
    )
