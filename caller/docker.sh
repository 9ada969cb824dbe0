# The caller's Docker engine: finding it, and calls to it.
# shellcheck shell=sh

# set_patience: sets, in seconds, $patience (limit for an answer), $heavy (limit for work on disks) and $beat (interval of checks
# that the engine still answers during long work). The orchestrator refuses an invalid number.
set_patience() {
  patience=${NIXOS_IMAGE_PATIENCE:-60}
  patience=${patience%%.*}
  case $patience in *[!0123456789]*) patience=60 ;; '' | 0*) patience=1 ;; esac
  heavy=$((3 * patience))
  beat=$(((patience + 1) / 2))
  [ "$beat" -le 20 ] || beat=20
}

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
