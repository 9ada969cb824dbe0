"""Name and version of the product; the version is read from pyproject.toml."""

import pathlib
import tomllib

from orchestrator.shared.paths import ROOT

NAME = "nixos-image-appliance"


def product_version(home: pathlib.Path = ROOT) -> str:
    """Return the version of the checkout in `home`."""
    project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
    return str(project["version"])
