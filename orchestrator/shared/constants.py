"""Constants that several modules share."""

MIB, GIB = 1 << 20, 1 << 30

#: Number of the user `builder` in the images (runtime.sh makes it). A host's user of that number
#: would own the builder's processes, where Docker does not map the numbers of users. systemd's
#: table of numbers calls 60706 to 61183 unused; persons, services and subordinate users have
#: others; and a mapped range of the usual 65536 numbers has it.
BUILDER = 61000

#: Exit code that shells, Nix and Docker report for a killed process: 128 + SIGKILL.
KILLED = 137

#: Name of Debian's package of Nix.
NIX_PACKAGE = "nix-bin"

#: Address of the Debian security tracker's document: vulnerabilities by source package.
TRACKER = "https://security-tracker.debian.org/tracker/data/json"
