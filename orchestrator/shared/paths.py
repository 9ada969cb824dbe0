"""Where this package's own tree lies: an image's, or a checkout's."""

import pathlib

#: The folder with `orchestrator/`, `nix/`, `locks/` and compose.yaml.
ROOT = pathlib.Path(__file__).resolve().parents[2]
