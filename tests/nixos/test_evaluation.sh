#!/bin/sh
# Evaluates every format for every system that supports it, with the product's own command; nothing is built.
#
#   NIXPKGS=FOLDER tests/nixos/test_evaluation.sh [SYSTEM...]
#
# GOLDEN=1 writes the image specs to tests/nixos/specs instead of comparing them.
. "$(dirname -- "$0")/../caller/lib.sh"
if [ -z "${NIXPKGS:-}" ]; then
  echo "skipped: NIXPKGS names no tree to evaluate"
  exit 0
fi
here=$project/tests/nixos
cp "$here/configuration.nix" "$work"
systems=${*:-$(python3 -c '
import json, sys
print(*sorted({system for one in json.load(open(sys.argv[1])).values() for system in one["systems"]}))' "$project/nix/formats.json")}

formats_of() {
  python3 -c '
import json, sys
for name, one in json.load(open(sys.argv[1])).items():
    if sys.argv[2] in one["systems"] and (one["assembler"] != "vm" or sys.argv[2] == sys.argv[3]):
        print("-f", name)' "$project/nix/formats.json" "$1" "$(uname -m)-linux"
}

for system in $systems; do
  # shellcheck disable=SC2046  # words
  expect "all formats for $system are evaluated" 0 '"plan"' "$project/run.sh" --dry-run --log-format json --nixpkgs "$NIXPKGS" \
    -c "$work/configuration.nix" --system "$system" $(formats_of "$system")
  cp "$work/err" "$work/events-$system"
  tar -cf - -C "$here" plan.py -C "$work" "events-$system" | docker run --rm -i --network none --volume nixos-image-store:/nix \
    --entrypoint sh nixos-image-builder -c "cd /tmp && tar -xf - >&2 && python3 plan.py specs < events-$system >&2; tar -cf - specs" \
    2> "$work/checks" | tar -xf - -C "$work"
  cat "$work/checks"
  passed=$((passed + $(grep -c '^PASS' "$work/checks"))) failed=$((failed + $(grep -vc '^PASS' "$work/checks")))
done

if [ -n "${GOLDEN:-}" ]; then
  cp -r "$work/specs" "$here"
else
  for system in $systems; do
    check "the specs for $system are those that were" diff -r "$here/specs/$system" "$work/specs/$system"
  done
fi
finish
