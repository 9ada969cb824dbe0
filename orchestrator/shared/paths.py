"""Path of the tree that this package is in: a checkout, or its copy in a container."""

import pathlib

#: The folder with `orchestrator/`, `nix/`, `locks/` and compose.yaml.
ROOT = pathlib.Path(__file__).resolve().parents[2]
