"""Constants that several modules share."""

MIB, GIB = 1 << 20, 1 << 30

#: Exit code that shells, Nix and Docker report for a killed process: 128 + SIGKILL.
KILLED = 137

#: Name of Debian's package of Nix.
NIX_PACKAGE = "nix-bin"

#: Address of the Debian security tracker's document: vulnerabilities by source package.
TRACKER = "https://security-tracker.debian.org/tracker/data/json"
