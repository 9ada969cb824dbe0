#!/bin/sh
# Benchmark of a fleet: what a further device costs, compared with a copy of its image. Needs the builder's image of `./run.sh demo`
# and 70 GB of disk space; BENCHMARK_GROUP_MIB and BENCHMARK_DEVICES make it smaller. Prints JSON. docs/performance.md explains it.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
label=org.nixos-image=true
volume=nixos-image-fleet
folder=/nix/benchmark
builder=

# shellcheck disable=SC2317  # called from the trap
finish() {
  [ -z "$builder" ] || docker rm --force "$builder" > /dev/null
  docker volume rm --force $volume > /dev/null
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A new volume gets the image's /nix, which belongs to the builder's user.
docker volume create --label $label $volume > /dev/null
builder=$(docker run --detach --init --label $label --user builder --cap-drop ALL --security-opt no-new-privileges:true --network none \
  --volume $volume:/nix ${BENCHMARK_GROUP_MIB:+--env BENCHMARK_GROUP_MIB} ${BENCHMARK_DEVICES:+--env BENCHMARK_DEVICES} \
  --entrypoint sleep nixos-image-builder infinity)
for file in assembly.py fleet.py measuring.py; do
  docker exec --interactive "$builder" sh -c "mkdir -p $folder && cat > $folder/$file" < "$project/benchmarks/$file"
done
docker exec "$builder" python3 $folder/fleet.py > /dev/null # lines of progress
docker exec "$builder" cat $folder/fleet.json
