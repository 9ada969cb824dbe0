"""Numbers that several modules need."""

MIB, GIB = 1 << 20, 1 << 30

#: Exit code of a process or container that was killed, as shells, Nix and Docker tell it: 128 +
#: SIGKILL.
KILLED = 137

#: Nix' package of Debian's.
NIX_PACKAGE = "nix-bin"
