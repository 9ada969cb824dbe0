"""Paths: the tree that this package is in (a checkout, or its copy in a container); CA bundle."""

import pathlib

#: The folder with `orchestrator/`, `nix/`, `locks/` and compose.yaml.
ROOT = pathlib.Path(__file__).resolve().parents[2]

#: Path of the caller's CA bundle in images; an empty file if there is none.
CA_BUNDLE = "/usr/local/share/nixos-image/ca-bundle.crt"
