#!/bin/sh
# Benchmark of the demo: cold (nothing of the project on the host), unchanged, unchanged without the boot check; and the overhead
# over a bare `nix build` in a warm builder. Prints a table; differences are to the bare build. It removes all containers, images
# and volumes of the project first.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

now() { date +%s.%N; }
timed() {
  began=$(now)
  "$@" > "$out/log" 2>&1 || { tail -n 20 "$out/log" >&2; exit 1; }
  echo "$(now) $began" | awk '{ printf "%.1f", $1 - $2 }'
}

"$project/run.sh" down --rmi all -v > /dev/null 2>&1
cold=$(timed "$project/run.sh" demo -o "$out")
grep '^seconds:' "$out/log" | sed 's/^/cold, inside: /'
warm=$(timed "$project/run.sh" demo -o "$out")
grep '^seconds:' "$out/log" | sed 's/^/warm, inside: /'
fast=$(timed "$project/run.sh" demo -o "$out" --no-boot)
grep '^seconds:' "$out/log" | sed 's/^/no boot, inside: /'

# Build the same derivations in a running builder: the store has them, so nothing is built or emulated.
builder=$(docker run -d --label org.nixos-image=true --volume nixos-image-store:/nix --entrypoint sleep nixos-image-builder 600)
docker exec "$builder" python3 -c '
import pathlib
from orchestrator.agents.builder import demo
from orchestrator.shared.architectures import foreign_system, this_system
pathlib.Path("/tmp/inputs.json").write_text(demo.pinned(foreign_system(this_system()), "raw-efi", "ext4", ()).to_json())'
bare=$(timed docker exec --env NIX_CONFIG='experimental-features = nix-command
substituters =
sandbox = false' "$builder" nix build --no-link --file /opt/nixos-image/nix/demo --argstr inputs /tmp/inputs.json imageSpec)
docker rm -f "$builder" > /dev/null

printf '| what | seconds | minus a bare nix build |\n| --- | --- | --- |\n'
for row in "cold, booted:$cold" "warm, booted:$warm" "warm, not booted:$fast" "bare nix build, warm:$bare"; do
  echo "$row $bare" | awk -F '[: ]' '{ n = NF; s = $(n - 1); b = $n; sub(/:[^:]*$/, "", $0); printf "| %s | %s | %.1f |\n", $0, s, s - b }'
done
