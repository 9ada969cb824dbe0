"""Numbers that several modules share."""

MIB, GIB = 1 << 20, 1 << 30

#: Exit code that shells, Nix and Docker report for a killed process: 128 + SIGKILL.
KILLED = 137

#: Nix' package of Debian's.
NIX_PACKAGE = "nix-bin"

#: Debian's security tracker: vulnerabilities by source package.
TRACKER = "https://security-tracker.debian.org/tracker/data/json"
