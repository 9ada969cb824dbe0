#!/bin/sh
# Benchmark of the first demo, with nothing of the project on the host and no registry, and its lower bound in the same run:
# making one file system of all packages, importing it, and the demo with everything in place. Prints a table and appends a line
# to results/cold_start.csv. It removes all of the project's containers, images and volumes first.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
upstream=$(cat "$project/locks/base")
! docker image inspect "$upstream" > /dev/null 2>&1 || { echo "$upstream is here: the base image would not be made" >&2; exit 2; }

# timed COMMAND...: runs the command and prints the seconds that it took
timed() {
  began=$(date +%s.%N)
  "$@" > "$out/log" 2>&1 || { tail -n 20 "$out/log" >&2; exit 1; }
  echo "$(date +%s.%N) $began" | awk '{ printf "%.1f", $1 - $2 }'
}

# base_part FUNCTION: runs a function of caller/base.sh as run.sh would; the image is nixos-image-floor
base_part() {
  root=$project state="$out/state" base=nixos-image-floor label=org.nixos-image=true sh -uc '
    client() { docker "$@"; }
    . "$root/caller/base.sh"
    "$@"' sh "$@"
}

"$project/run.sh" down --rmi all -v > /dev/null 2>&1
cold=$(timed "$project/run.sh" demo -o "$out")
inside=$(sed -n 's/^seconds: //p' "$out/log")
warm=$(timed "$project/run.sh" demo -o "$out")
mkdir "$out/state"
packages=$(timed base_part make_file_system)
import=$(timed base_part import_base)
docker rmi nixos-image-floor > /dev/null

floor=$(echo "$packages $import $warm" | awk '{ printf "%.1f", $1 + $2 + $3 }')
ratio=$(echo "$cold $floor" | awk '{ printf "%.2f", $1 / $2 }')
echo "cold, inside the orchestrator: $inside"
printf '| what | seconds |\n| --- | ---: |\n'
printf '| %s | %s |\n' "cold, booted" "$cold" "one file system of all packages" "$packages" "its import" "$import" "warm, booted" "$warm" \
  "floor: the three together" "$floor" "cold, times the floor" "$ratio"
results=$project/benchmarks/results/cold_start.csv
[ -e "$results" ] || echo 'date,cores,cold,packages,import,warm,ratio' > "$results"
echo "$(date +%F),$(nproc),$cold,$packages,$import,$warm,$ratio" >> "$results"
