#!/bin/sh
# Runs the demo on simulated Docker hosts of each kind: it must succeed, or be refused before it starts, with reason and hint; the
# host must be unchanged. Needs root. `./run.sh test --hosts [--write] [KIND...]` starts it; --write puts the rows into
# docs/hosts.md.
#
# HOSTS is the folder that keeps the hosts' trees and images between runs (3 GB); NETWORK the first three numbers of a free
# network.
# shellcheck disable=SC2034  # the kind's variables are lib.sh's
. "$(dirname -- "$0")/../caller/lib.sh"
. "$(dirname -- "$0")/lib.sh"
release_table() { :; } # here no container keeps binfmt_misc mounted for it
hosts=${HOSTS:-${TMPDIR:-/tmp}/nixos-image-hosts}
state=$hosts/state
network=${NETWORK:-10.77.30}
link=ni-${network##*.}
own_engine=${DOCKER_HOST:-}
everything='own-namespace rootful-26 rootful-28 userns-remap rootless-26 rootless-28 podman podman-rootless tcp ssh containerd-26
  containerd-28 cgroup-2 foreign-sound foreign-stale rootless-foreign registry offline'

# kind NAME: sets the variables of a kind of host. $wants is the mode of emulation that `auto` must choose, or the pattern of the
# refusal; $shared likewise for `--emulation shared`.
kind() {
  tree=$hosts/trixie space=own engine=docker cgroup=hybrid share=yes options='' entry=none wants=private shared=shared boot=no
  case $1 in
    own-namespace) options='--log-driver none' ;;
    rootful-26) space=machine ;;
    rootful-28) space=machine tree=$hosts/sid ;;
    userns-remap) options=--userns-remap=default shared='its own binfmt_misc' ;;
    rootless-26) engine=rootless ;;
    rootless-28) engine=rootless tree=$hosts/sid ;;
    podman) engine=podman cgroup=1 ;;
    podman-rootless) engine=podman-rootless cgroup=1 ;;
    tcp | ssh) share=no ;;
    containerd-26) options="--config-file $hosts/containerd.json" ;;
    containerd-28) tree=$hosts/sid options='--feature containerd-snapshotter=true' ;;
    cgroup-2) cgroup=2 boot=yes ;;
    foreign-sound) entry=sound shared='would hide' ;;
    foreign-stale) entry=stale ;;
    rootless-foreign) engine=rootless entry=sound shared='would hide' ;;
    offline) boot=yes ;;
    registry) options="--registry-mirror http://$network.1:5000 --insecure-registry $network.1:5000" ;;
    *) echo "$1: no such kind; there are: $everything" >&2; exit 2 ;;
  esac
}

# prepare: makes the tree and the saved images
prepare() {
  echo '{"features": {"containerd-snapshotter": true}}' > "$hosts/containerd.json"
  suite=$(basename "$tree")
  [ -d "$tree" ] || "$project/tests/simulated_hosts/make-tree.sh" "$tree" "$suite" > "$hosts/$suite.log" 2>&1 \
    || { tail "$hosts/$suite.log"; exit 1; } >&2
  [ -e "$hosts/base.tar" ] || docker save -o "$hosts/base.tar" nixos-image-base
  # Take the images of the caller's engine; old ones are rebuilt on each host.
  source=$(docker image inspect --format '{{index .Config.Labels "org.nixos-image.source"}}' nixos-image-orchestrator 2> /dev/null)
  if [ "${source%% *}" = "$NIXOS_IMAGE_SOURCE" ] && docker image inspect nixos-image-builder nixos-image-qemu-setup > /dev/null 2>&1; then save_images; fi
}

# load_images: loads the appliance's images if they were built from this checkout, else only the base image
load_images() {
  if [ -e "$hosts/images-$NIXOS_IMAGE_SOURCE.tar" ]; then
    docker load -q -i "$hosts/images-$NIXOS_IMAGE_SOURCE.tar" > /dev/null
  else
    docker load -q -i "$hosts/base.tar" > /dev/null
  fi
}

save_images() {
  [ ! -e "$hosts/images-$NIXOS_IMAGE_SOURCE.tar" ] || return 0
  rm -f "$hosts"/images-*
  docker save -o "$hosts/images.part" nixos-image-base nixos-image-runtime nixos-image-orchestrator nixos-image-qemu-setup nixos-image-builder \
    && mv "$hosts/images.part" "$hosts/images-$NIXOS_IMAGE_SOURCE.tar"
}

# runs_aarch64: whether a plain container runs aarch64 programs
runs_aarch64() {
  docker run --rm --network none --entrypoint python3 nixos-image-orchestrator -c '
import pathlib
from orchestrator.agents.emulation import canary
print(canary.run("aarch64-linux", pathlib.Path("/tmp")).runs)'
}

# left: prints containers, networks and volumes of runs
left() {
  things
  docker volume ls -q --filter label=org.nixos-image | grep -vxE 'nixos-image-(store|host|history)'
}

# seen: prints the host's state that a run must not change
seen() { printf 'the table:\n%s\naarch64 runs: %s\nleft:%s\n' "$(table)" "$(runs_aarch64)" "$(left)"; }

as_before() { seen > "$work/after"; diff "$work/before" "$work/after" >> "$work/err"; }

# demo WHAT WANTED OPTIONS...: runs the demo; WANTED is a mode of emulation, or the pattern of a refusal before the start. Sets
# $said for the table.
demo() {
  what=$1 wanted=$2
  shift 2
  rm -rf "$work/images"
  case $wanted in
    private | host | shared)
      expect "$what: the demo succeeds" 0 'deliver' "$checkout/run.sh" demo -o "$work/images" "$@"
      check "$what: the image is here" delivered
      check "$what: its emulation is $wanted" grep -q "\"emulation\": \"$wanted\"" "$work/images/result.json"
      said=$wanted
      ;;
    *)
      expect "$what: refused with the reason" 5 "^error: .*$wanted" "$checkout/run.sh" demo -o "$work/images" "$@"
      check "$what: and the way out" grep -q '^try: ' "$work/err"
      check "$what: before anything was started" sh -c "! grep -q '^start: ' '$work/err'"
      said="refused: $(sed -n 's/^error: \(--emulation shared: \)*//p' "$work/err")"
      ;;
  esac
  check "$what: the host is as it was" as_before
}

delivered() { [ -s "$work/out" ] && [ "$(sha256sum < "$(cat "$work/out")" | cut -d ' ' -f 1)" = "$(field sha256)" ]; }

# field NAME: prints a field of result.json
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/images/result.json" "$1"; }

# try_kind NAME: tests one kind of host and makes its row
try_kind() {
  kind "$1"
  began=$(date +%s) checkout=$project registry=
  unset DOCKER_HOST
  [ -z "$own_engine" ] || export DOCKER_HOST="$own_engine"
  prepare
  if start_host; then pass "$1: the host starts"; else fail "$1: the host starts"; stop_host; return; fi
  "reach_$(reach "$1")"
  version=$(docker version --format '{{.Server.Version}}')
  case $1 in registry | offline) ;; *) load_images ;; esac
  expect "$1: the appliance answers" 0 '' "$checkout/run.sh" formats qcow-efi
  seen > "$work/before"
  no_boot=--no-boot
  [ "$boot" = no ] || no_boot=
  # shellcheck disable=SC2086
  demo "$1" "$wants" $no_boot
  auto=$said sandbox=no
  [ ! -e "$work/images/result.json" ] || ! grep -q '"sandbox": true' "$work/images/result.json" || sandbox=yes
  [ "$1" = registry ] || save_images
  demo "$1, shared" "$shared" --no-boot --emulation shared
  shared_said=$said
  [ "$entry" != sound ] || demo "$1, the host's" host --no-boot --emulation host
  expect "$1: clean" 0 '' "$checkout/run.sh" clean
  check "$1: and the host is as it was" as_before
  [ "$1" != tcp ] || other_socket
  [ "$1" != own-namespace ] || restarts
  # shellcheck disable=SC2016
  printf '| `%s` | %s | %s | %s | %s |\n' "$1" "$version" "$auto" "$sandbox" "$shared_said" >> "$work/rows"
  [ -z "$registry" ] || kill "$registry"
  stop_host
  echo "$1: $(($(date +%s) - began)) s"
}

# other_socket: run.sh refuses a missing Docker socket; Docker would create a folder in its place, to mount it
other_socket() {
  expect "a remote socket that is not there is refused, and how to name it" 3 '^try: .*set NIXOS_IMAGE_SOCKET' \
    env NIXOS_IMAGE_SOCKET=/run/none.sock "$checkout/run.sh" demo
  check "and nothing is made in its place" test -z "$(in_host sh -c 'ls -d /run/none.sock 2> /dev/null')"
  expect "one that is named is used" 0 '' env NIXOS_IMAGE_SOCKET=/run/docker.sock "$checkout/run.sh" formats qcow-efi
}

# ended CODE PATTERN: whether the awaited run ended with CODE and a line that matches
ended() { [ "$code" = "$1" ] && grep -qE -- "$2" "$work/err"; }

# The engine stops during a run, regularly or by a kill, and is started again.
restarts() {
  for one in shared/TERM private/KILL; do
    mode=${one%/*} signal=${one#*/}
    what="SIG$signal to the engine under a $mode run"
    rm -rf "$work/images"
    "$checkout/tests/forget-demo" # then something is built
    : > "$work/err"
    "$checkout/run.sh" demo --no-boot --emulation "$mode" -o "$work/images" > "$work/out" 2> "$work/err" < /dev/null &
    run=$!
    check "$what: it builds" await_host "the build" grep -q '^build: ' "$work/err"
    check "$what: it ends" stop_engine "$signal"
    wait "$run"
    code=$?
    case $signal in
      # dockerd stops its containers first, so the orchestrator has time to clean up.
      TERM) check "$what: exit code 143, and a word" ended 143 '^error: terminated' ;;
      KILL) check "$what: exit code 3, and a word" ended 3 '^error: Docker .* Docker has stopped' ;;
    esac
    check "$what: no partial file" no_partial_file
    start_engine
    expect "$what: clean, when it is back" 0 '' "$checkout/run.sh" clean
    check "$what: the host is as it was" as_before
  done
  demo "after that" private --no-boot
}

# reach KIND: prints local, tcp, ssh, registry or offline. The function reach_local, reach_tcp, ... then prepares how the caller of that
# kind of host gets to the engine or to its images.
reach() { case $1 in tcp | ssh | registry | offline) echo "$1" ;; *) echo local ;; esac; }
reach_local() { :; }
reach_tcp() { export DOCKER_HOST="tcp://$network.2:2375"; }
reach_ssh() {
  [ -f "$hosts/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$hosts/id"
  mkdir -p "$tree/root/.ssh" "$work/bin"
  chmod 700 "$tree/root" "$tree/root/.ssh"
  cp "$hosts/id.pub" "$tree/root/.ssh/authorized_keys"
  in_host sh -c 'mkdir -p /run/sshd; ssh-keygen -A > /dev/null; exec /usr/sbin/sshd -o UsePAM=no'
  printf '#!/bin/sh\nexec %s -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"\n' \
    "$(command -v ssh)" "$hosts/id" > "$work/bin/ssh"
  chmod 755 "$work/bin/ssh"
  PATH=$work/bin:$PATH
  export DOCKER_HOST="ssh://root@$network.2"
}

# A registry mirror of Docker Hub with the base image, which the checkout pins by digest; no image is loaded.
reach_registry() {
  printf 'version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "%s:5000"}\n' \
    "$state/registry" "$network.1" > "$state/registry.yml"
  "$tree/usr/bin/docker-registry" serve "$state/registry.yml" > "$state/log/registry" 2>&1 &
  registry=$!
  docker load -q -i "$hosts/base.tar" > /dev/null
  docker tag nixos-image-base "$network.1:5000/library/debian:trixie-slim"
  await_host "the registry" docker push -q "$network.1:5000/library/debian:trixie-slim"
  digest=$(docker image inspect --format '{{index .RepoDigests 0}}' nixos-image-base)
  docker rmi -f "$(docker image inspect --format '{{.Id}}' nixos-image-base)" > /dev/null
  checkout=$work/checkout
  mkdir "$checkout"
  (cd "$project" && git ls-files -z | xargs -0 tar -cf -) | tar -xf - -C "$checkout"
  echo "debian@${digest#*@}" > "$checkout/locks/base"
}

# write_configuration: writes a configuration, and a nixpkgs whose image is a derivation that a sandbox without a network may build
write_configuration() {
  mkdir -p "$work/outside/machine" "$work/outside/pkgs/lib" "$work/outside/pkgs/nixos/lib"
  echo '{ }' > "$work/outside/machine/a.nix"
  echo '{ }' > "$work/outside/pkgs/nixos/lib/eval-config.nix"
  cat > "$work/outside/pkgs/lib/default.nix" << NIX
{
  genAttrs = _: _: {
    $(uname -m)-linux.raw-efi = derivation {
      name = "image";
      system = "$(uname -m)-linux";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-c" "mkdir \$out; od -An -N9 -tx1 /dev/urandom > \$out/disk.img" ];
    };
  };
}
NIX
}

# inside: makes the image of the kit's configuration, by the commands that came with it
inside() (
  mkdir "$work/inside" && cd "$work/inside" && ln -s "$checkout/run.sh" run.sh
  tar -xOf "$hosts/offline.kit" sources.tar | tar -xf - && sh -e build-commands
)

# A machine without a network and without an image: it gets a kit of the caller's engine, with a configuration. The image has random
# bytes, so it can be the same inside only if it was not built there.
reach_offline() {
  in_host ip route del default
  write_configuration
  set -- -f raw-efi --nixpkgs "$work/outside/pkgs" --allow-no-login --option sandbox false
  caller=${own_engine:-unix:///var/run/docker.sock}
  expect "offline: a kit is made" 0 '' env DOCKER_HOST="$caller" "$checkout/run.sh" kit export --force "$hosts/offline.kit" \
    --with "$work/outside/machine/a.nix" "$@"
  expect "offline: and the image of its configuration" 0 '' env DOCKER_HOST="$caller" "$checkout/run.sh" --yes \
    -c "$work/outside/machine/a.nix" "$@" -o "$work/outside/out"
  check "offline: this machine reaches nobody" sh -c "! nsenter -t '$(cat "$state/init.pid")' -n ip route | grep -q default"
  check "offline: and has no image" [ -z "$(docker images -aq)" ]
  expect "offline: the kit is imported" 0 '' "$checkout/run.sh" kit import "$hosts/offline.kit"
  mkdir "$work/away"
  mv "$work/outside/machine" "$work/outside/pkgs" "$work/away" # the sources are those of the kit
  expect "offline: its configuration is built, of what the kit has" 0 'nothing: the store has it all$' inside
  check "offline: bit for bit" cmp "$work/outside/out/disk.img" "$work/inside/out/disk.img"
  rm "$hosts/offline.kit"
}

# write_rows: replaces rows in the table of docs/hosts.md
write_rows() {
  awk -F '`' 'NR == FNR { row[$2] = $0; next } /^\| `/ && $2 in row { print row[$2]; delete row[$2]; next } { print }
    END { for (kind in row) { print "no line for " kind > "/dev/stderr"; bad = 1 } exit bad }' \
    "$work/rows" "$project/docs/hosts.md" > "$work/hosts.md" && cat "$work/hosts.md" > "$project/docs/hosts.md"
}

[ "$(id -u)" = 0 ] || { echo "simulated hosts need root" >&2; exit 2; }
write=
[ "${1:-}" != --write ] || { write=1; shift; }
# shellcheck disable=SC2086
[ "$#" -gt 0 ] || set -- $everything
mkdir -p "$hosts"
exec 9> "$hosts/lock"
flock -n 9 || { echo "another run uses $hosts" >&2; rm -rf "$work"; exit 2; }
trap 'stop_host; rm -rf "$work"' EXIT
for one; do kind "$one"; done
trap 'exit 130' INT TERM
: > "$work/rows"
for one; do try_kind "$one"; done
cat "$work/rows"
[ -z "$write" ] || [ "$failed" != 0 ] || check "every kind has a line in docs/hosts.md" write_rows
finish
