# Profile of a board, as a folder: gaps.toml imports it.
{ boot.loader.limine.enable = true; }
