#!/bin/sh
# Run after run of the demo: what leaks, and whether the last is as quick as the second. RUNS (default 100) of each mode.
# Prints a line for every tenth run, then the ratio; ends with 1 if anything was left.
set -eu
cd "$(dirname "$0")/.."
runs=${RUNS:-100}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What must not grow: entries, containers, networks, volumes, the daemon's file descriptors, files of the work volume, KiB of /nix.
left() {
  docker run --rm --network none --cap-drop ALL --cap-add SYS_ADMIN --security-opt apparmor=unconfined --tmpfs /run \
    --volume nixos-image-work:/work:ro --volume nixos-image-store:/nix:ro --entrypoint python3 nixos-image-qemu-setup -c '
import pathlib, subprocess
from orchestrator.agents import binfmt
binfmt.mount()
used = subprocess.run(["du", "-sk", "/nix/store"], capture_output=True, text=True).stdout.split()[0]
print(len(binfmt.entries()), len(list(pathlib.Path("/work").iterdir())), used)'
  docker ps -aq | wc -l
  docker network ls -q | wc -l
  docker volume ls -q | wc -l
  if [ -r /var/run/docker.pid ]; then find "/proc/$(cat /var/run/docker.pid)/fd" -mindepth 1 | wc -l; else echo -; fi
}

seconds() { awk '{ print $1 }' /proc/uptime; }

code=0
for mode in private shared; do
  ./run.sh demo --no-boot --emulation "$mode" -o "$work" > /dev/null 2>&1 # the images and the store are there from here on
  before=$(left | tr '\n' ' ')
  echo "$mode: entries, folders of runs, KiB of the store, containers, networks, volumes, descriptors: $before"
  second='' last=''
  for number in $(seq "$runs"); do
    began=$(seconds)
    ./run.sh demo --no-boot --emulation "$mode" -o "$work" > /dev/null 2> "$work/err" || { cat "$work/err"; exit 1; }
    last=$(echo "$(seconds) $began" | awk '{ print $1 - $2 }')
    [ "$number" != 2 ] || second=$last
    [ $((number % 10)) != 0 ] || echo "$mode $number: $last s; $(left | tr '\n' ' ')"
  done
  after=$(left | tr '\n' ' ')
  # The daemon keeps a few descriptors for connections of its own.
  [ "${before% * }" = "${after% * }" ] || { echo "$mode: left behind: $before -> $after"; code=1; }
  echo "$mode: run $runs took $(echo "$last $second" | awk '{ printf "%.2f", $1 / $2 }') times the time of run 2"
done
exit $code
