"""GRUB's menu in an image has what NixOS' own installer of GRUB writes for the same configuration.

    NIXPKGS=FOLDER pytest tests/nixos/grub_menu.py

It evaluates one configuration twice, as an image and as NixOS alone, and runs `install-grub.pl` of
that tree, which needs Nix and Perl's modules. The lines of both menus that a configuration decides
are compared, in their order. What an image has otherwise:
- no picture and no font, unless the configuration sets one;
- titles and identifiers of entries; older generations are no submenu;
- the serial console stays beside the graphical one;
- no `insmod`, because the modules are in GRUB's core, and no `search`, because GRUB's files and the
  system are on the partition that the core was made for;
- no environment block (`grub-reboot`, a saved default).
"""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import typing

import pytest

from orchestrator.image.bootspec import Bootspec
from orchestrator.image.loaders import bootloader, grub_menu
from orchestrator.shared.json_reader import from_json
from orchestrator.shared.spec import BootLoader
from tests.unit.boot_systems import HASH, make_store

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
NIXPKGS = os.environ.get("NIXPKGS", "")
MODULES = "Class::Struct XML::LibXML File::Copy::Recursive File::Slurp JSON List::Compare".split()

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree with the program"),
    pytest.mark.timeout(300),
]

#: Lines of a menu that a configuration decides.
DECIDED = re.compile(
    "(password|set (superusers|default=[1-9]|timeout_style=[ch]|gfx|theme|color|menu_color)"
    "|export theme|(if )?loadfont|terminal_output gfxterm|background_color|if background_image"
    "|menuentry|linux|initrd|play|echo|chainloader)"
)


def decided(text: str, boot: pathlib.Path) -> list[str]:
    """Return those lines, with the same words for what always differs."""
    # What follows is other generations, which a new system does not have.
    text = text.partition("\nsubmenu ")[0].replace(str(boot), "/boot")
    text = re.sub('if [^;]*grub_platform[^;]*"efi" ]; then.*?else\n', "", text, flags=re.DOTALL)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [re.sub('^(menuentry) "NixOS[^"]*"( --id "[^"]*")?', r"\1", line) for line in lines]
    lines = [line.replace("gfxterm serial", "gfxterm") for line in lines]
    return [line for line in lines if DECIDED.match(line)]


def evaluate(given: str, folder: pathlib.Path) -> dict[str, typing.Any]:
    """Return the image's boot loader, and what NixOS gives to its installer, as XML."""
    (folder / "given.nix").write_text(given)
    names = (
        "backgroundColor default entryOptions extraConfig extraEntries extraEntriesBeforeNixOS"
        " extraPerEntryConfig font gfxmodeBios gfxmodeEfi gfxpayloadBios gfxpayloadEfi splashImage"
        " splashMode subEntryOptions theme timeoutStyle users"
    )
    expression = f"""
      let
        base = {{ ... }}: {{ imports = [ {HERE}/configuration.nix {folder}/given.nix ]; }};
        image = ((import {ROOT}/nix {{ nixpkgs = {NIXPKGS}; buildSystem = "x86_64-linux"; }})
          .images {{ system = "x86_64-linux"; formats = [ "raw" ]; modules = [ base ]; }}).raw;
        nixos = (import {NIXPKGS}/nixos/lib/eval-config.nix {{
          system = null;
          modules = [ base {ROOT}/nix/modules ({{ lib, ... }}: {{
            nixpkgs.hostPlatform = "x86_64-linux";
            boot.loader.grub.font = lib.mkOverride 1400 null;
            boot.loader.grub.splashImage = lib.mkOverride 900 null;
          }}) ];
        }}).config.boot.loader.grub;
        # As grub.nix does: a path is a store path, and null is empty.
        plain = value:
          if value == null then "" else if builtins.isPath value then "${{value}}" else value;
      in {{
        image = image.spec.bootLoader;
        nixos = builtins.toXML (builtins.mapAttrs (_: plain) {{
          inherit (nixos) {names};
        }} // {{ configurationLimit = 9; timeout = 5; fsIdentifier = "provided"; }});
      }}"""
    command = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure", "--json"]
    done = subprocess.run(
        [*command, "--expr", expression], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, typing.Any] = json.loads(done.stdout)
    return found


def nixos_writes(xml: str, top: pathlib.Path, folder: pathlib.Path) -> str:
    """Run install-grub.pl; returns its menu."""
    given = {"bootPath": folder / "boot", "storePath": folder / "nix/store", "copyKernels": "false"}
    given |= {"shell": "/bin/sh", "path": os.environ["PATH"], "forceInstall": "false"}
    attributes = "".join(
        f'<attr name="{name}"><string value="{value}"/></attr>' for name, value in given.items()
    )
    head, end, tail = xml.rpartition("</attrs>")
    (folder / "grub.xml").write_text(f"{head}{attributes}{end}{tail}")
    text = (
        pathlib.Path(NIXPKGS) / "nixos/modules/system/boot/loader/grub/install-grub.pl"
    ).read_text()
    for old, new in (
        ("@distroName@", "NixOS"),
        ("@utillinux@", "/nowhere"),
        ("@btrfsprogs@", "/nowhere"),
        ("/nix/var/nix/profiles", str(folder / "profiles")),
        ("/nix/store", str(folder / "nix/store")),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "install.pl").write_text(text)
    (folder / "boot").mkdir()
    command: list[str | pathlib.Path] = ["perl", folder / "install.pl", folder / "grub.xml", top]
    subprocess.run(command, check=True)
    return (folder / "boot/grub/grub.cfg").read_text()


def system(folder: pathlib.Path) -> tuple[pathlib.Path, Bootspec]:
    """Make a system with a specialisation, and its bootspec."""
    store = make_store(folder)
    top = store / f"{HASH}-toplevel"

    def fill(place: pathlib.Path) -> Bootspec:
        place.mkdir(parents=True)
        (place / "kernel").symlink_to(store / f"{HASH}-linux-6.18/bzImage")
        (place / "initrd").symlink_to(store / f"{HASH}-initrd/initrd")
        (place / "init").touch()
        (place / "kernel-params").write_text("quiet loglevel=4")
        (place / "nixos-version").write_text("26.11")
        return Bootspec(
            system="x86_64-linux",
            label="26.11",
            kernel=str(place / "kernel"),
            initrd=str(place / "initrd"),
            init=str(place / "init"),
            toplevel=str(place),
            kernel_params=("quiet", "loglevel=4"),
        )

    boot = fill(top)
    special = fill(top / "specialisation/fast")
    return top, dataclasses.replace(boot, specialisations=(("fast", special),))


@pytest.mark.needs("nix", "perl")
@pytest.mark.parametrize(
    "given",
    [
        "",
        'users.root.hashedPassword = "grub.pbkdf2.sha512.1.A.B"; users.me.password = "secret";',
        """
          extraEntries = "menuentry \\"Other\\" {\\n  chainloader @bootRoot@/other\\n}";
          extraConfig = "play 480 440 1";
          extraPerEntryConfig = "echo started";
          timeoutStyle = "hidden";
          default = 1;
          entryOptions = "--class mine";
        """,
        'extraEntries = "menuentry Other { }"; extraEntriesBeforeNixOS = true;',
        """
          splashImage = ./pictures/a.png;
          splashMode = "normal";
          backgroundColor = "#123456";
          font = "${./pictures}/f.pf2";
          gfxmodeBios = "800x600";
          theme = ./pictures;
        """,
    ],
    ids=["default", "passwords", "entries", "entries-before", "pictures"],
)
def test_the_menu_has_what_nixos_writes(
    given: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = [f"-M{module}" for module in MODULES]
    if subprocess.run(["perl", *uses, "-e1"], check=False, capture_output=True).returncode:
        pytest.skip(f"needs Perl's {', '.join(MODULES)}")
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "f.pf2", "theme.txt"):
        (tmp_path / "pictures" / name).touch()
    found = evaluate(f"{{ boot.loader.grub = {{ {given} }}; }}", tmp_path)
    top, boot = system(tmp_path)
    theirs = nixos_writes(found["nixos"], top, tmp_path)
    monkeypatch.setattr(bootloader, "STORE", tmp_path / "nix/store")
    loader = from_json(BootLoader, found["image"], "bootLoader")
    files = grub_menu.alone(bootloader.boot_entries(boot), loader, kernels="")
    menu = str(files["grub/grub.cfg"])
    assert decided(menu, tmp_path / "boot") == decided(theirs, tmp_path / "boot")
