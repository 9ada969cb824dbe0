# The caller's Docker engine: finding it, and calls to it.
# shellcheck shell=sh

find_docker() {
  command -v docker > /dev/null || lacks docker-client "docker is not installed"
  set_patience
  ask version --format '{{.Server.Os}}' && grep -qx linux "$state/said" && return
  facts=$(cat "$state/log")
  last=$(printf %s "$facts" | tail -n 1)
  case $(cat "$state/said"):$facts in
    windows:*) lacks docker-linux "Docker runs Windows containers" ;;
    *"permission denied"*) lacks docker-permission "no permission to use Docker" ;;
    *"Cannot connect"* | *"Is the docker daemon running"* | *"no such file"* | *refused*)
      lacks docker-engine "Docker is installed, but not running: $last" ;;
    *) lack=docker-engine && die 3 "docker version failed: $last" "run: docker version" ;;
  esac
}

# lacks RULE MESSAGE: ends run.sh, with the remedy of this rule of `doctor`
lacks() { lack=$1 && die 3 "$2" "$(remedy "$1")"; }

# find_socket: sets $socket, the socket's path on the engine's host (a remote engine does not report it), $userns: the socket
# belongs to root, so with userns-remap the orchestrator must be the host's root, and $limits, the orchestrator's limit of memory.
find_socket() {
  endpoint=${DOCKER_HOST:-}
  if [ -z "$endpoint" ]; then ask context inspect --format '{{.Endpoints.docker.Host}}'; endpoint=$(cat "$state/said"); fi
  ask info --format '{{.MemoryLimit}} {{.SwapLimit}} {{.MemTotal}} {{.OperatingSystem}} {{.SecurityOptions}}'
  engine=$(cat "$state/said")
  limit_memory "$engine"
  socket=${NIXOS_IMAGE_SOCKET:-/var/run/docker.sock}
  userns=
  case $engine in *name=userns*) userns="--userns host" ;; esac
  case $endpoint in
    unix://*)
      # On macOS and Windows Docker runs in a virtual machine, where its socket has the usual path.
      [ "$(uname -s)" = Linux ] && [ -z "${NIXOS_IMAGE_SOCKET:-}" ] || return
      case $engine in *Desktop*) ;; *) socket=${endpoint#unix://} ;; esac
      ;;
  esac
}

# limit_memory FACTS: sets $limits to Docker's options for half of the engine's memory, 1 GiB at least. FACTS begin with whether the engine
# limits memory, whether it limits swap, and its memory in bytes. It warns of a limit that it cannot set, so none is asked for then.
limit_memory() {
  limits=
  case $1 in "true "*) ;; *) return ;; esac
  swap=${1#* }
  total=${swap#* }
  total=${total%% *}
  # more than 15 digits are no computer's memory
  case $total in '' | *[!0123456789]* | 0* | ????????????????*) return ;; esac
  half=$((total / 2))
  [ "$half" -ge 1073741824 ] || half=1073741824
  limits="--memory $half"
  case $swap in "true "*) ;; *) limits="$limits --memory-swap -1" ;; esac
}

# find_cpu: sets $cpu to the engine's CPU, as Docker calls it. It becomes part of patterns, of names of images and of lines of locks/images:
# fails unless it is one plain word.
find_cpu() {
  ask info --format '{{.Architecture}}'
  cpu=$(cat "$state/said")
  case $cpu in '' | *[!a-z0-9_]*) return 1 ;; esac
}

has_image() { ask image inspect "$1"; }

# is_id TEXT: whether it is an image's id. Images are used by id, because a name may be given to another image at any time.
is_id() { is_sum "${1#sha256:}"; }

# list ARGUMENTS...: runs docker and sets $listed to the ids or names that it prints; drops other output, which could be taken for
# options. Fails if there are none.
list() {
  ask "$@"
  listed=$(LC_ALL=C grep -E '^[A-Za-z0-9][A-Za-z0-9_./:-]*$' "$state/said")
}

# create_store: creates the Nix store's volume, with the labels that Compose would give it, and an engine label. An existing
# volume is not changed.
create_store() {
  ask volume create --label $label --label com.docker.compose.project=nixos-image --label "$engine_label=$(random 2)" \
    --label com.docker.compose.volume=store nixos-image-store
}

# random BYTES: prints random bytes as hexadecimal digits
random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# new_run: sets $run to a new run's ID, twelve digits. The first four identify the engine (label of its store's volume): another engine on
# the same kernel may share binfmt_misc, and must not remove entries of this one's runs. A store's volume without the label means
# 0000.
new_run() {
  ask volume inspect --format "{{index .Labels \"$engine_label\"}}" nixos-image-store
  digits=$(cat "$state/said")
  case $digits in [0-9a-f][0-9a-f][0-9a-f][0-9a-f]) ;; *) digits=0000 ;; esac
  run=$digits$(random 4)
}

# start OPTIONS... -- ARGUMENTS...: runs the orchestrator (by `client`) with ARGUMENTS, in a container with docker's OPTIONS and,
# except for `prepare`, the run's work volume
start() {
  options=
  while [ "$1" != -- ]; do options="$options $1"; shift; done
  shift
  case ${1-} in
    prepare) ;;
    trees) options="$options --mount $history_mount" ;;
    *) options="$options --mount $(work_mount) --mount $history_mount" ;;
  esac
  set -- "$orchestrator_id" orchestrator "$@"
  case ${3-} in
    prepare | trees) ;;
    *) while IFS= read -r mount; do set -- --mount "$mount" "$@"; done < "$state/mounts" ;;
  esac
  if [ -n "$tar_holes" ]; then sparse=1; else sparse=0; fi
  # shellcheck disable=SC2086 # options are split on purpose
  client "$how" --rm --log-driver none $options $userns $limits --name "$container" --label $label --label "org.nixos-image.run=$run" --network none \
    --security-opt no-new-privileges --pids-limit 4096 \
    --mount "type=bind,source=$socket,target=/var/run/docker.sock" \
    --env NIXOS_IMAGE_RUN="$run" --env NIXOS_IMAGE_CWD="$PWD" --env NIXOS_IMAGE_HOME="${HOME:-/}" --env NIXOS_IMAGE_ROOT="$root" \
    --env NIXOS_IMAGE_COLUMNS="$columns" --env NIXOS_IMAGE_OUT_KIB="$out_kib" --env NIXOS_IMAGE_SOCKET="$socket" \
    --env NIXOS_IMAGE_SOURCE="$source" --env NIXOS_IMAGE_SPARSE="$sparse" --env NIXOS_IMAGE_CA_BUNDLE="$ca_bundle" \
    --env NIXOS_IMAGE_COMPUTER="$(uname -n)" --env NIXOS_IMAGE_NIXPKGS="$nixpkgs" --env NIXOS_CONFIG --env NIX_PATH \
    --env NIXOS_IMAGE_APPLIANCE="$appliance" --env NIXOS_IMAGE_APPLIANCE_TEXT --env NIXOS_IMAGE_BUILDERS \
    --env NIXOS_IMAGE_ROWS="$rows" --env NIXOS_IMAGE_CI="$ci" --env NIXOS_IMAGE_ASKS="$asks" --env NO_COLOR \
    --env NIXOS_IMAGE_USER --env NIXOS_IMAGE_ZONE --env NIXOS_IMAGE_AGENT_KEYS --env NIXOS_IMAGE_FINDINGS \
    --env NIXOS_IMAGE_ORCHESTRATOR="$orchestrator_id" --env NIXOS_IMAGE_PATIENCE --env HTTP_PROXY --env HTTPS_PROXY --env NO_PROXY --env http_proxy --env https_proxy --env no_proxy \
    --env PIP_INDEX_URL --env PIP_EXTRA_INDEX_URL --env PIP_TRUSTED_HOST \
    "$@"
}

# work_mount: prints the mount option of the run's work volume. The engine creates the volume together with the first container,
# so that it never exists without one and is not taken for a dead run's. It has Compose's labels, because services use it, too.
work_mount() {
  printf %s "type=volume,source=nixos-image-work-$run,target=/var/nixos-image,volume-label=$label"
  printf ',volume-label=%s' "org.nixos-image.run=$run" "com.docker.compose.project=nixos-image-$run" com.docker.compose.volume=work
}

# mount option of the volume with past runs' times, which only orchestrators mount (orchestrator/run/memory.py)
history_mount=type=volume,source=nixos-image-history,target=/var/lib/nixos-image,volume-label=$label

# forget_run: removes the run's work volume. It retries, because Docker's client may end before the container (if the terminal was
# closed).
forget_run() {
  [ -n "$mounted" ] || return 0
  mounted=
  tries=20
  until regardless ask_within "$heavy" volume rm "nixos-image-work-$run"; do
    [ -z "$again" ] && ! is_silent && [ "$tries" -gt 0 ] && regardless ask_within "$patience" volume inspect "nixos-image-work-$run" || return 0
    tries=$((tries - 1))
    sleep 1
  done
}
