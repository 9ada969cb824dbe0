"""The virtual machines of nixpkgs' builds, as the builder starts them."""

import json
import pathlib
import subprocess

import pytest

from tests.tools.nix_store import run

ROOT = pathlib.Path(__file__).parents[2]

#: What the file takes of nixpkgs: a script is its text, the machine's tools are what is overridden.
PKGS = """{
  buildPackages = {
    writeScript = _: text: text;
    runtimeShell = "/bin/bash";
    coreutils = "/usr";
    qemu_kvm = "/qemu";
  };
  stdenv.hostPlatform.isx86_64 = %s;
  vmTools = { override = changes: changes; };
}"""


def tools(x86: str) -> dict[str, str]:
    pkgs = PKGS % x86
    text = f"let pkgs = {pkgs}; in builtins.removeAttrs"
    text += f' (import {ROOT}/nix/vm-tools.nix pkgs pkgs).vmTools [ "override" ]'
    found = run("nix-instantiate", "--eval", "--strict", "--json", "--expr", text)
    changes: dict[str, str] = json.loads(found)
    return changes


@pytest.mark.needs("nix-instantiate")
def test_a_late_timer_and_a_serial_console_are_no_trouble(tmp_path: pathlib.Path) -> None:
    script, qemu, options = tools("true")["customQemu"].partition(" /qemu/bin/qemu-system-x86_64")
    assert (qemu, options) != ("", "")
    start, machine = tmp_path / "start", tmp_path / "qemu"
    start.write_text(script)
    machine.write_text('#!/bin/sh\nprintf "%s\\r\\n" "$@"\nexit 3\n')
    machine.chmod(0o755)
    words = ["-kernel", "a b", "-append", "console=ttyS0 command=/x", "-m", "5"]
    done = subprocess.run(["bash", start, machine, *words], capture_output=True, check=False)
    words[3] += " no_timer_check"
    assert done.stdout.decode().split("\n")[:-1] == words
    assert done.returncode == 3


@pytest.mark.needs("nix-instantiate")
def test_other_machines_are_nixpkgs_own() -> None:
    assert tools("false") == {}
