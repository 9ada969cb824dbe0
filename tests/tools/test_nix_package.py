"""Tests Nix in the builder's image, and its installation from Debian packages."""

import os
import pathlib
import subprocess

import pytest

from orchestrator.agents import debian
from orchestrator.agents.builder import nix_package
from orchestrator.shared.debian_package import NIX, Package

pytestmark = pytest.mark.needs("dpkg-deb")


def package(folder: pathlib.Path, name: str, source: str, files: dict[str, str]) -> debian.Pin:
    """Make NAME.deb in `folder` with `files` by path; content that begins with -> is a link."""
    tree = folder / f"{name}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\n{source}Version: 2\nArchitecture: all\nMaintainer: m\nDescription: d\n"
    )
    for path, text in files.items():
        place = tree / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            place.symlink_to(text.removeprefix("->"))
        else:
            place.write_text(text)
    command = ["dpkg-deb", "--root-owner-group", "--build"]
    subprocess.run([*command, tree, folder / f"{name}.deb"], check=True, capture_output=True)
    return debian.Pin(name, name, "2", "forky", f"pool/{name}_2_all.deb", "0" * 64)


def test_nix_is_taken_under_all_its_names_and_libraries_without_their_modules(
    tmp_path: pathlib.Path,
) -> None:
    lib = "usr/lib/x86_64-linux-gnu"
    pins = [
        package(
            tmp_path,
            "nix-bin",
            "Source: nix (1)\n",
            {
                "usr/bin/nix": "nix",
                "usr/bin/nix-store": "->nix",
                "usr/bin/nix-script": "#!/usr/bin/perl",
                "usr/share/doc/nix": "words",
            },
        ),
        package(
            tmp_path,
            "liba1",
            "",
            {f"{lib}/liba.so.1.2": "a", f"{lib}/liba.so.1": "->liba.so.1.2", f"{lib}/mod/m.so": ""},
        ),
    ]
    folder = tmp_path / "made"
    nix_package.unpack(pins, tmp_path, folder)
    assert sorted(one.name for one in (folder / "bin").iterdir()) == ["nix", "nix-store"]
    assert (folder / "bin/nix-store").readlink() == pathlib.Path("nix")
    assert (folder / "lib/liba.so.1").read_text() == "a"
    assert sorted(one.name for one in (folder / "lib").iterdir()) == ["liba.so.1", "liba.so.1.2"]
    assert nix_package.read_list(folder) == [
        Package("nix-bin", "2", "all", "nix", "1", "forky", "0" * 64),
        Package("liba1", "2", "all", "liba1", "2", "forky", "0" * 64),
    ]


@pytest.mark.needs("nix")
def test_nix_has_libraries_of_its_own_and_nobody_else_has_them() -> None:
    def loaded(program: str) -> list[str]:
        said = subprocess.run(
            [program],
            env={"LD_TRACE_LOADED_OBJECTS": "1"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return [line for line in said.splitlines() if "linux-vdso" not in line]

    own = loaded(os.fspath(NIX / "bin/nix"))
    assert len(own) > 10
    for line in own:
        assert f"{NIX}/lib/" in line, line
    others = loaded("/bin/sh")
    assert others
    for line in others:
        assert os.fspath(NIX) not in line, line
