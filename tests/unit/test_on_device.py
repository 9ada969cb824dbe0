"""A provider's image has all files that its modules read, for nixos-rebuild on the device."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]

#: Modules that compare a configuration with an image are none of the device's.
OF_IMAGES_ALONE = ("declared.nix", "switches.nix")


def test_files_that_modules_read_are_delivered() -> None:
    text = (ROOT / "nix/on-device.nix").read_text()
    delivered = set(re.findall(r'^  "([^"]+)" = ', text, re.MULTILINE))
    modules = ROOT / "nix/modules"
    for module in modules.glob("*.nix"):
        if module.name in OF_IMAGES_ALONE:
            continue
        # A folder's file may be named by an expression behind it.
        for name in re.findall(r"\.\./[a-z./_-]*[a-z]", module.read_text()):
            path = (modules / name).resolve().relative_to(ROOT)
            if (ROOT / path).is_file():
                assert path.as_posix() in delivered, (module.name, name)
