#!/bin/sh
# Benchmark of evaluation: overhead of `./run.sh --dry-run` over nix-instantiate in the same image, and the cost of several
# formats, which share an evaluation. Prints a table; each value is the best of three.
#
#   NIXPKGS=FOLDER benchmarks/evaluation.sh
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
builder=
trap 'rm -rf "$work"; [ -z "$builder" ] || docker rm -f "$builder" > /dev/null' EXIT
system=$(uname -m)-linux
cp "$project/tests/nixos/configuration.nix" "$work"

# best COMMAND...: runs the command three times and prints the smallest number that it prints
best() {
  : > "$work/numbers"
  for _ in 1 2 3; do "$@" >> "$work/numbers" || return; done
  sort -n "$work/numbers" | head -n 1
}

# product FORMAT...: prints the seconds from the builder's first evaluation event to the plan
product() {
  for format; do set -- "$@" -f "$format"; shift; done
  "$project/run.sh" --dry-run --log-format json --nixpkgs "$NIXPKGS" -c "$work/configuration.nix" --system "$system" "$@" 2> "$work/events"
  python3 -c '
import datetime, json, sys
events = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
at = {event["event"]: datetime.datetime.fromisoformat(event["timestamp"]) for event in events}
began = next(event for event in events if event.get("detail") == "evaluating the configuration")
print((at["plan"] - datetime.datetime.fromisoformat(began["timestamp"])).total_seconds())' "$work/events"
}

# bare ARGUMENTS...: prints the seconds that nix-instantiate ARGUMENTS takes in a running builder
bare() {
  docker exec "$builder" sh -c 'began=$(date +%s.%N); nix-instantiate "$@" > /dev/null 2> /tmp/err || { tail -n 3 /tmp/err >&2; exit 1; }
    echo "$(date +%s.%N) $began" | awk "{ print \$1 - \$2 }"' sh "$@"
}

# inputs FORMAT: writes inputs.json for nix/build.nix as the builder does, with the quoted FORMAT
inputs() {
  printf '{"nixpkgs": "/tmp/nixpkgs", "configuration": "/tmp/configuration.nix", "formats": [%s], "systems": ["%s"]}' "$1" "$system" |
    docker exec -i "$builder" sh -c 'cat > /tmp/inputs.json'
}

product raw-efi > /dev/null # the first call makes the container images, too
builder=$(docker run -d --label org.nixos-image=true --network none --volume nixos-image-store:/nix --entrypoint sleep nixos-image-builder 3600)
docker cp -q "$NIXPKGS" "$builder:/tmp/nixpkgs"
docker cp -q "$work/configuration.nix" "$builder:/tmp/configuration.nix"
alone="let nixos = import /tmp/nixpkgs/nixos/lib/eval-config.nix { system = \"$system\"; modules = [ /tmp/configuration.nix {
  fileSystems.\"/\" = { device = \"/dev/disk/by-label/nixos\"; fsType = \"ext4\"; }; boot.loader.systemd-boot.enable = true; boot.loader.grub.enable = false; } ]; };
  in nixos.config.system.build.toplevel"
system_alone=$(best bare --expr "$alone")
inputs '"raw-efi"'
image=$(best bare /opt/nixos-image/nix/build.nix --arg inputs /tmp/inputs.json)
ours=$(best product raw-efi)
same=$(best product raw-efi qcow-efi)
three=$(best product raw-efi amazon iso)

echo '| what | seconds | to the image by nix-instantiate |'
echo '| --- | ---: | ---: |'
while IFS=: read -r what seconds; do
  echo "$seconds $image" | awk -v what="$what" '{ printf "| %s | %.1f | %.2f |\n", what, $1, $1 / $2 }'
done << END
the system alone, by nix-instantiate:$system_alone
the image (raw-efi), by nix-instantiate:$image
the image, by ./run.sh --dry-run:$ours
raw-efi and qcow-efi, which have the same system:$same
raw-efi, amazon and iso, which have three:$three
END
