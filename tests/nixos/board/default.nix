# Profile of a board, as a folder: gaps.toml imports it.
{ boot.loader.refind.enable = true; }
