#!/bin/sh
# Benchmark of builders on other machines: one build of 40 independent derivations with 1, 2 and 4 workers, each of which has half a core;
# and what one builder adds to a build with nothing to do. Needs the images of `./run.sh worker` and `./run.sh demo`, and an engine that
# does nothing else. BENCHMARK_COUNT and BENCHMARK_LOOPS make it smaller. Prints JSON. docs/performance.md explains it.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
label=org.nixos-image=true
folder=$(mktemp -d)
names=

# shellcheck disable=SC2317  # called from the trap
finish() {
  # shellcheck disable=SC2086  # names
  [ -z "$names" ] || docker rm --force --volumes $names > /dev/null
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# rights PROGRAM-OPTIONS...: runs docker with the rights of a worker and of a run's builder
rights() {
  verb=$1
  shift
  docker "$verb" --label $label --read-only --user builder --cap-drop ALL --security-opt no-new-privileges \
    --security-opt "seccomp=$project/orchestrator/docker/seccomp.json" --security-opt apparmor=unconfined \
    --security-opt systempaths=unconfined --tmpfs /tmp:exec --tmpfs /nix:exec,uid=61000 --tmpfs /var/nixos-image:uid=61000 \
    --env HOME=/tmp/home --env NIXOS_IMAGE_LOG=json --entrypoint python3 "$@"
}

docker run --rm --label $label --network none --tmpfs /tmp --entrypoint sh nixos-image-worker -c \
  'ssh-keygen -q -t ed25519 -N "" -C "" -f /tmp/key && cat /tmp/key.pub /tmp/key' > "$folder/keys"
public=$(head -n 1 "$folder/keys" | cut -d ' ' -f 1,2)
workers=
for number in 1 2 3 4; do
  name=nixos-image-benchmark-worker-$$-$number
  names="$names $name"
  rights run --detach --name "$name" --cpus 0.5 --env NIXOS_IMAGE_WORKER_KEYS="$public" nixos-image-worker \
    -m orchestrator.agents.builder.worker > /dev/null
done
for name in $names; do
  until docker logs "$name" 2>&1 | grep -q 'Server listening'; do sleep 0.5; done
  host=$(docker inspect "$name" --format '{{.NetworkSettings.Networks.bridge.IPAddress}}')
  key=$(docker logs "$name" 2> /dev/null | sed -n 's/.*"host_key": "\([^"]*\)".*/\1/p' | head -n 1)
  workers="$workers${workers:+, }{\"host\": \"$host\", \"key\": \"$key\"}"
done
secret=$(sed 1d "$folder/keys" | awk '{ printf "%s\\n", $0 }')
printf '{"secret": "%s", "workers": [%s]}' "$secret" "$workers" > "$folder/given"
base64 < "$project/benchmarks/workers.py" | tr -d '\n' > "$folder/program"
rights run --rm --interactive ${BENCHMARK_COUNT:+--env BENCHMARK_COUNT} ${BENCHMARK_LOOPS:+--env BENCHMARK_LOOPS} \
  nixos-image-builder -c "import base64; exec(base64.b64decode('$(cat "$folder/program")'))" < "$folder/given"
