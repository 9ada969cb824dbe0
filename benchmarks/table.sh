# Sourced by benchmarks that look at what runs leave behind.
# shellcheck shell=sh

# in_table OPTIONS PROGRAM: runs the Python PROGRAM, with binfmt_misc mounted, in a container with docker's OPTIONS
in_table() {
  # shellcheck disable=SC2086  # options are words
  docker run $1 --network none --cap-drop ALL --cap-add SYS_ADMIN --security-opt apparmor=unconfined --tmpfs /run \
    --volume nixos-image-store:/nix:ro --entrypoint python3 nixos-image-qemu-setup -u -c "
import pathlib, subprocess, time
from orchestrator.agents.emulation import binfmt
binfmt.mount()
$2"
}
