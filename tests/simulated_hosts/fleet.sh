#!/bin/sh
# Follows docs/tutorials/fleet-of-machines.md with its own commands on three simulated machines: one builder is cut off from power while
# it builds, and an empty machine repeats the fleet from the cache alone. Needs root.
#
# HOSTS is the folder that keeps the hosts' tree between runs (1.3 GB); NETWORKS the first numbers of three free networks (10.77.4 for
# 10.77.41, 10.77.42, 10.77.43).
# shellcheck disable=SC2034  # the machines' variables are lib.sh's
. "$(dirname -- "$0")/../caller/lib.sh"
. "$(dirname -- "$0")/lib.sh"
programs ip iptables nsenter setsid ssh-keygen openssl python3
hosts=${HOSTS:-${TMPDIR:-/tmp}/nixos-image-hosts}
networks=${NETWORKS:-10.77.4}
page=$project/docs/tutorials/fleet-of-machines.md
saved=$work/images.tar
space=own engine=docker cgroup=hybrid share=yes options='' entry=none tree=$hosts/trixie
images='nixos-image-base nixos-image-runtime nixos-image-orchestrator nixos-image-builder nixos-image-qemu-setup nixos-image-worker'

# on MACHINE: sets lib.sh's variables of the machine, and Docker's address
on() {
  case $1 in desk) number=1 ;; server) number=2 ;; arm) number=3 ;; esac
  machine=$1 state=$hosts/fleet-$1 network=$networks$number link=ni-fleet-$number
  export DOCKER_HOST="unix://$state/run/docker.sock"
  mkdir -p "$work/$1"
  cd "$work/$1" || exit
}

# boot MACHINE: starts a machine that has run.sh's images and nothing else
boot() {
  on "$1"
  start_host && docker load -q -i "$saved" > /dev/null
}

# power_cut: ends all processes of the machine at once. Its address answers nobody from then on; packets to it must not leave this machine.
power_cut() {
  ip route add blackhole "$network.0/24" metric 9999
  kill -9 "$(cat "$state/outer.pid")" "$(cat "$state/holder.pid")"
}

# shellcheck disable=SC2317  # called from the trap
stop_all() {
  for one in desk server arm; do
    on $one
    ip route del blackhole "$network.0/24" 2> /dev/null
    stop_host
  done
  cd /
  rm -rf "$work"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# command_of PATTERN: prints the tutorial's only block of commands that has PATTERN, with this test's addresses and the cache's key
command_of() {
  awk -v pattern="$1" '/^```sh$/ { block = ""; inside = 1; next } inside && /^```$/ { if (block ~ pattern) { found = block; count++ } inside = 0 }
    inside { block = block $0 "\n" } END { if (count == 1) printf "%s", found }' "$page" \
    | sed "s|192\.0\.2\.\([123]\)0|${networks}\1.2|g; s|--trusted-public-key [^ ]*|--trusted-public-key $key|; s|\./run\.sh|$project/run.sh|g"
}

# follow PATTERN: runs that block in the machine's folder
follow() {
  command_of "$1" > "$work/block"
  [ -s "$work/block" ] || { echo "the tutorial has no block, or several, with $1" >&2; return 1; }
  sh -eu "$work/block"
}

# arm_worker: the worker of a machine with an ARM CPU. Here an emulator below it stands for the CPU: the desk cannot tell.
arm_worker() {
  docker run --rm --entrypoint true --volume emulators:/opt/qemu nixos-image-qemu-setup
  docker run --detach --name arm-worker --read-only --user builder --cap-drop ALL --security-opt no-new-privileges \
    --security-opt "seccomp=$project/orchestrator/docker/seccomp.json" --security-opt apparmor=unconfined \
    --security-opt systempaths=unconfined --tmpfs /tmp:exec --tmpfs /run:exec --tmpfs /nix:exec,uid=61000 \
    --volume emulators:/opt/qemu:ro --publish "$network.2:2222:2222" --env HOME=/tmp/home --env NIXOS_IMAGE_LOG=json \
    --env "NIXOS_IMAGE_WORKER_ADDRESS=$network.2" --env "NIXOS_IMAGE_WORKER_KEYS=$(cat "$work/desk/builder-key.pub")" \
    --entrypoint python3 nixos-image-worker -c "$(cat "$project/tests/emulated_worker.py")" > /dev/null
  await_host "the worker" arm_line && arm_line
}
arm_line() { docker logs arm-worker 2> /dev/null | sed -n 's/.*"line": "\([^"]*\)".*/\1/p' | grep ssh-ng; }

# emulates: whether a program for the ARM CPU runs on the ARM machine
emulates() { docker top arm-worker 2> /dev/null | grep -q '[q]emu-aarch64'; }

# fields FILE EXPRESSION: prints what the Python expression says of the JSON document `d`
fields() { python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }
digests() { (cd "$work/$1" && sha256sum sensors/*.img gateways/*.img); }
built_nothing() { ! grep -qE '^(build|emulate|elsewhere|download) +[0-9]' "$work/err" && grep -qE '^fetch +[0-9]+ paths' "$work/err"; }

[ -d "$tree" ] || { mkdir -p "$hosts" && "$project/tests/simulated_hosts/make-tree.sh" "$tree" trixie > "$work/tree.log" 2>&1; } \
  || { tail "$work/tree.log"; exit 1; }
# save_images: puts those of run.sh's images that there are into the archive for new machines
# shellcheck disable=SC2046,SC2086  # names
save_images() {
  docker save -o "$saved" $(docker image ls --format '{{.Repository}}' --filter label=org.nixos-image | sort -u | grep -xF "$(printf '%s\n' $images)")
}
save_images
check "there is an image to start from" test -s "$saved"

key=
for one in desk server arm; do check "$one starts" boot $one; done
on desk
expect "the key is made" 0 '' follow ssh-keygen
cp builder-key.pub "$work/server"
on server
expect "the server's worker starts" 0 '' follow 'worker --listen 192.0.2.20'
sed -n 's/ KEY / builder-key /p' "$work/out" > "$work/desk/builders.txt"
docker save -o "$saved.worker" nixos-image-worker # its image was built there, if it was not in the archive
on arm
docker load -q -i "$saved.worker" > /dev/null
rm "$saved.worker"
expect "the ARM machine's worker starts" 0 '' arm_worker
sed 's/ KEY / builder-key /' "$work/out" >> "$work/desk/builders.txt"
check "both have told their lines" test "$(grep -c '^ssh-ng://builder@.* builder-key ' "$work/desk/builders.txt")" = 2
on desk
expect "the lists are made" 0 '' follow '^printf'

# The ARM machine loses its power as soon as it builds.
: > "$work/err"
follow 'demo --system aarch64-linux .*--builders' > "$work/out" 2> "$work/err" < /dev/null &
run=$!
on arm
check "the ARM machine builds" await_host "a build" emulates
power_cut
wait $run
code=$?
check "the sensors are there though it has lost its power (exit code $code)" test $code = 0
check "its loss is told" grep -q "ssh-ng://builder@$network.2:2222 is left out: lost while it built" "$work/err"
on desk
check "an emulator has built the rest" test "$(fields sensors/result.json 'd["emulation"]')" = private
check "the server has built, too" test "$(fields sensors/result.json 'sum(one["builds"] for one in d["builders"] if ".2:2222" in one["uri"]) > 0')" = True
expect "the gateways are there, too" 0 '' follow 'demo --system x86_64-linux .*--builders'
digests desk > "$work/right"
check "these are ten devices" test "$(wc -l < "$work/right")" = 10
expect "the cache is served" 0 '' follow 'cache serve'
key=$("$project/run.sh" cache info --json 2> "$work/err" | python3 -c 'import json, sys; print(json.load(sys.stdin)["public_key"])')

save_images # the desk has made those that were old

# A new machine in the ARM machine's place, which reaches the desk and nobody else.
on arm
stop_host
ip route del blackhole "$network.0/24"
check "a new machine starts" boot arm
in_host sh -c "ip route add ${networks}1.0/24 via $network.1 && ip route del default"
cp "$work/desk/sensors.csv" "$work/desk/gateways.csv" "$work/desk/seed" .
expect "it makes the sensors from the cache" 0 '' follow 'demo --system aarch64-linux .*--substituter'
check "it builds nothing" built_nothing
expect "and the gateways" 0 '' follow 'demo --system x86_64-linux .*--substituter'
check "it builds nothing again" built_nothing
digests arm > "$work/again"
check "all ten images are the same, bit by bit" diff "$work/right" "$work/again"
expect "the checksums are told" 0 '' follow sha256sum
on desk
expect "the cache ends" 0 '' follow 'cache stop'
trap - EXIT
stop_all
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
