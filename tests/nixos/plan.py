"""Checks a dry run's plan: the derivations of each image, in the builder's container.

Reads lines of JSON: the run's events. Prints PASS or FAIL for each check; with a folder as argument
it writes each image spec there.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import typing

from orchestrator.agents.emulation import crash
from orchestrator.shared.architectures import this_system
from orchestrator.shared.spec_reader import read_spec

FORMATS = json.loads(pathlib.Path("/opt/nixos-image/nix/formats.json").read_text())

#: SSH key in tests/nixos/configuration.nix.
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX"

#: Target packages, besides the system, from which a build step of this machine copies data: boot
#: loaders and firmware, which a binary cache has. For an ISO, efi-directory and efi-image are
#: nixpkgs' own emulated steps of a second each; the rest are texts, pictures, downloads.
DATA = re.compile(
    r"(grub-|uboot-|raspberrypi-|syslinux-|refind-|kexec-tools-|memtest86|isolinux\.)"
    r"|(config\.txt|efi-directory|efi-image_eltorito|version|source|grub|loopback\.cfg)$"
    r"|(efi-background|bios-boot)\.png$|extra-commands\.sh$"
)

#: Parts of specs that change with nixpkgs: hashes of store paths, NixOS' version.
VERSION = re.compile(r"-\d\d\.\d\d(pre-git|(pre)?[.0-9a-f]*)")
STORE_HASH = re.compile(r"/nix/store/[0-9a-z]{32}-")


class Derivation(typing.NamedTuple):
    """One `.drv` file: its system, and its input derivations."""

    system: str
    needs: frozenset[str]
    text: str


def read(path: str) -> Derivation:
    """Parse the `.drv` file at `path`."""
    text = pathlib.Path(path).read_text(errors="replace")
    system = crash.system_of(text)
    assert system, path
    return Derivation(system, frozenset(re.findall(r'"(/nix/store/[^"]+\.drv)"', text)), text)


known: dict[str, Derivation] = {}


def graph(root: str) -> set[str]:
    """Return the closure of derivations of `root`, itself included."""
    found, todo = {root}, [root]
    while todo:
        path = todo.pop()
        if path not in known:
            known[path] = read(path)
        todo += known[path].needs - found
        found |= known[path].needs
    return found


failed = 0


def check(name: str, good: object, more: object = "") -> None:
    """Print PASS or FAIL for one check."""
    global failed  # any failure sets the exit code
    failed += not good
    print(f"{'PASS' if good else 'FAIL'} {name}{'' if good else f': {more}'}")


def check_image(system: str, name: str, path: str, specs: pathlib.Path | None) -> None:
    """Check one image: systems of its build steps, its inputs, its spec."""
    what, form = f"{name} for {system}", FORMATS[name]
    steps = graph(path)
    check(f"{what} is put together by this machine", known[path].system == this_system())
    tops = [one for one in steps if re.search(r"-nixos-system-.*\.drv$", one)]
    if form["recipe" if "recipe" in form else "assembler"] == "metadata":
        return  # lxc-metadata contains no system
    check(f"{what} has a system in it", tops)
    check(
        f"{what}: the system is the target's",
        all(known[one].system == system for one in tops),
        {known[one].system for one in tops},
    )
    inside = set().union(*(graph(one) for one in tops))
    keyed = any(KEY in known[one].text for one in inside)
    check(f"{what}: the key is in the system", keyed)
    if system != this_system():
        beside = steps - inside
        foreign = {one for one in beside if known[one].system == system}
        used = foreign & set().union(*(known[one].needs for one in beside - foreign))
        names = sorted(re.sub(r"^/nix/store/[^-]+-|\.drv$", "", one) for one in used)
        strange = [one for one in names if not DATA.search(one)]
        check(f"{what}: no step beside the system is emulated", not strange, strange)
    if form["assembler"] == "native":
        check_spec(what, system, path, specs and specs / system / f"{name}.json")


def check_spec(what: str, system: str, path: str, golden: pathlib.Path | None) -> None:
    """Check that the derivation's image spec is valid and equals the golden one."""
    show = ["nix", "--extra-experimental-features", "nix-command", "derivation", "show", path]
    done = subprocess.run(show, capture_output=True, text=True, check=True)
    (document,) = json.loads(done.stdout)["derivations"].values()
    text = document["env"]["spec"]
    spec = read_spec(text)
    check(f"{what}: the spec is for it", spec.system == system, spec.system)
    check(f"{what}: the file has the format's suffix", spec.file_name.endswith(suffix_of(what)))
    plain = json.loads(VERSION.sub("-VERSION", STORE_HASH.sub("/nix/store/", text)))
    if golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")


def suffix_of(what: str) -> str:
    """Return the file suffix of the format that `NAME for SYSTEM` names."""
    return f".{FORMATS[what.partition(' ')[0]]['suffix']}"


def main() -> int:
    """Check the event `plan` in the events on stdin."""
    specs = pathlib.Path(sys.argv[1]) if sys.argv[1:] else None
    events = [json.loads(line) for line in sys.stdin if line.startswith("{")]
    plans = [event for event in events if event.get("event") == "plan"]
    check("there is a plan", plans)
    for plan in plans:
        for image in plan["images"]:
            check_image(image["system"], image["format"], image["derivation"], specs)
    return 1 if failed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
