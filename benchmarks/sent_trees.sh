#!/bin/sh
# Benchmark of a large folder that is sent: a whole dry run except for the evaluation, when the folder is sent for the first time, when
# it is as it was, and when one file has changed; last, of an empty folder. Prints a row of benchmarks/results/sent_trees.csv; each
# number is the best of two.
#
#   NIXPKGS=FOLDER benchmarks/sent_trees.sh
#
# The copy of the folder that is sent lacks one file, so the builder refuses it at the moment when it would evaluate.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -a "$NIXPKGS" "$work/nixpkgs"
rm -rf "$work/nixpkgs/.git" "$work/nixpkgs/nixos/lib/eval-config.nix"
mkdir "$work/machine"
cp "$project/tests/nixos/configuration.nix" "$work/machine"
system=$(uname -m)-linux

# seconds FOLDER: prints how long a dry run takes until the builder refuses the folder
seconds() {
  began=$(date +%s.%N)
  "$project/run.sh" --dry-run --nixpkgs "$1" -c "$work/machine/configuration.nix" --system "$system" -f raw-efi 2> "$work/err" || :
  grep -q 'is not a nixpkgs tree' "$work/err" || { tail -n 5 "$work/err" >&2; exit 1; }
  echo "$(date +%s.%N) $began" | awk '{ printf "%.1f\n", $1 - $2 }'
}

# best COMMAND...: runs the command twice and prints the smaller number that it prints
best() {
  one=$("$@") && two=$("$@") && printf '%s\n' "$one" "$two" | sort -n | head -n 1
}

forget() { docker volume ls -q --filter name=nixos-image-tree- | xargs -r docker volume rm > /dev/null; }
whole() { forget && seconds "$work/nixpkgs"; }
one() { echo >> "$work/nixpkgs/README.md" && seconds "$work/nixpkgs"; }

seconds "$work/nixpkgs" > /dev/null # the first call makes the container images, too
all=$(best whole)
sleep 3 # what has just changed counts as changed
seconds "$work/nixpkgs" > /dev/null
same=$(best seconds "$work/nixpkgs")
changed=$(best one)
mkdir "$work/empty"
empty=$(best seconds "$work/empty")
files=$(find "$work/nixpkgs" | wc -l)
echo "date,cores,entries,whole,changed,same,ratio,empty"
echo "$(date +%F) $(nproc) $files $all $changed $same $empty" | awk '{ printf "%s,%s,%s,%s,%s,%s,%.1f,%s\n", $1, $2, $3, $4, $5, $6, $4 / $6, $7 }'
