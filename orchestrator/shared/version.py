"""The product's name and version, which pyproject.toml alone has."""

import pathlib
import tomllib

from orchestrator.shared.paths import ROOT

NAME = "nixos-image-appliance"


def product_version(home: pathlib.Path = ROOT) -> str:
    """The version of the checkout in `home`."""
    project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
    return str(project["version"])
