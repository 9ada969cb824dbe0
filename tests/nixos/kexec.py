"""A system for kexec comes back by itself, is seen on a serial line, and takes keys.

    NIXPKGS=FOLDER pytest tests/nixos/kexec.py

It needs Nix, and a tree of nixpkgs. Nothing is built.
"""

import json
import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
NIXPKGS = os.environ.get("NIXPKGS", "")

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree to evaluate"),
    pytest.mark.needs("nix"),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize(
    ("system", "serial"),
    [("x86_64-linux", "console=ttyS0,115200"), ("aarch64-linux", "console=ttyAMA0,115200")],
)
def test_what_kexec_starts(system: str, serial: str, tmp_path: pathlib.Path) -> None:
    expression = f"""
      let config = (import {NIXPKGS}/nixos/lib/eval-config.nix {{
        system = null;
        modules = [
          {HERE}/configuration.nix
          {ROOT}/nix/modules/kexec.nix
          {NIXPKGS}/nixos/modules/installer/netboot/netboot-minimal.nix
          {{ nixpkgs.hostPlatform = "{system}"; }}
        ];
      }}).config; in
      {{
        parameters = config.boot.kernelParams;
        inherit (config.boot.initrd.systemd.services.ssh-pubkey) script before requires;
      }}"""
    words = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure", "--json"]
    done = subprocess.run(
        [*words, "--expr", expression], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    consoles = [one for one in found["parameters"] if one.startswith("console=")]
    assert consoles == ["console=tty0", serial], "the last one is /dev/console"
    assert {"panic=30", "boot.panic_on_fail"} <= set(found["parameters"])
    assert (found["before"], found["requires"]) == (["initrd.target"], ["sysroot.mount"])

    (tmp_path / "ssh_pubkey").write_text("ssh-ed25519 AAAA me\n")
    (tmp_path / "sysroot").mkdir()
    moved = found["script"].replace("/sysroot", f"{tmp_path}/sysroot")
    moved = moved.replace("/ssh_pubkey", f"{tmp_path}/ssh_pubkey")
    subprocess.run(["sh", "-ec", moved], check=True)
    home = tmp_path / "sysroot/root"
    keys = home / ".ssh/authorized_keys"
    assert keys.read_text() == "ssh-ed25519 AAAA me\n"
    modes = [path.stat().st_mode & 0o777 for path in (home, home / ".ssh", keys)]
    assert modes == [0o700, 0o700, 0o600], "as sshd wants them"
