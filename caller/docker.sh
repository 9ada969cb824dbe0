# The caller's Docker: where its engine is, and what is asked of it.
# shellcheck shell=sh

find_docker() {
  command -v docker > /dev/null || die 3 "docker is not installed" "https://docs.docker.com/get-docker/"
  # An engine that hangs takes the connection and says nothing.
  with_life "${NIXOS_IMAGE_PATIENCE:-60}" "waiting for Docker" docker version --format '{{.Server.Os}}' \
    && grep -qx linux "$state/log" && return # beside warnings
  end_if_stopped "the wait for Docker"
  facts=$(plain < "$state/log")
  case $facts in
    windows) die 3 "Docker runs Windows containers" "switch Docker Desktop to Linux containers" ;;
    *"permission denied"*) die 3 "you may not use Docker" "join the docker group, or use sudo" ;;
    *"Cannot connect"* | *"Is the docker daemon running"* | *"no such file"* | *refused*)
      die 3 "Docker is installed, but not running: $(printf %s "$facts" | tail -n 1)" "start Docker, or set DOCKER_HOST" ;;
    *"it was ended after"*) die 3 "Docker does not answer" "restart it, or give it more than $limit seconds in NIXOS_IMAGE_PATIENCE" ;;
    *) die 3 "docker version failed: $(printf %s "$facts" | tail -n 1)" "run: docker version" ;;
  esac
}

# The socket's path on the engine's side; a remote engine does not tell where it is. It is root's: where containers have other
# users (userns-remap), the orchestrator's must not.
find_socket() {
  endpoint=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2> /dev/null)}
  engine=$(docker info --format '{{.OperatingSystem}} {{.SecurityOptions}}' 2> /dev/null)
  socket=${NIXOS_IMAGE_SOCKET:-/var/run/docker.sock}
  userns=
  case $engine in *name=userns*) userns="--userns host" ;; esac
  case $endpoint in
    unix://*)
      [ "$(uname -s)" = Linux ] && [ -z "${NIXOS_IMAGE_SOCKET:-}" ] || return # elsewhere the engine is in a virtual machine, with paths of its own
      case $engine in *Desktop*) ;; *) socket=${endpoint#unix://} ;; esac
      ;;
  esac
}

has_image() { docker image inspect "$1" > /dev/null 2>&1; }

# A name may be given to another image at any time: what is used is the image that was looked at, by its id.
is_id() { is_sum "${1#sha256:}"; }

# docker_names COMMAND...: the ids or names that Docker lists, and nothing else that the engine may say, options for one
docker_names() { docker "$@" | LC_ALL=C grep -E '^[A-Za-z0-9][A-Za-z0-9_./:-]*$'; }

# The store outlives runs; it is labelled as Compose itself labels it for the project of `docker compose up`. One that is there
# stays as it is, with the digits that it was given.
create_store() {
  docker volume create --label $label --label com.docker.compose.project=nixos-image --label "$engine_label=$(random 2)" \
    --label com.docker.compose.volume=store nixos-image-store > /dev/null 2>> "$state/log"
}

# random BYTES: in hexadecimal digits
random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# Twelve digits. The first four are the engine's, on its store: by them it knows its own runs beside those of another
# engine on this kernel, with which it may share binfmt_misc. A volume that others have made has none.
new_run() {
  digits=$(docker volume inspect --format "{{index .Labels \"$engine_label\"}}" nixos-image-store)
  case $digits in [0-9a-f][0-9a-f][0-9a-f][0-9a-f]) ;; *) digits=0000 ;; esac
  printf %s "$digits" && random 4
}

# start OPTIONS... -- ARGUMENTS...: the orchestrator in its container, with the run's own volume, which `prepare` does not need
start() {
  options=
  while [ "$1" != -- ]; do options="$options $1"; shift; done
  shift
  [ "$1" = prepare ] || options="$options --mount $(work_mount)"
  if [ -n "$tar_holes" ]; then sparse=1; else sparse=0; fi
  # shellcheck disable=SC2086  # options are words of our own
  docker "$how" --rm --log-driver none $options $userns --name "$container" --label $label --label "org.nixos-image.run=$run" --network none \
    --security-opt no-new-privileges --pids-limit 4096 \
    --mount "type=bind,source=$socket,target=/var/run/docker.sock" \
    --env NIXOS_IMAGE_RUN="$run" --env NIXOS_IMAGE_CWD="$PWD" --env NIXOS_IMAGE_HOME="${HOME:-/}" --env NIXOS_IMAGE_ROOT="$root" \
    --env NIXOS_IMAGE_COLUMNS="$columns" --env NIXOS_IMAGE_OUT_KIB="$out_kib" --env NIXOS_IMAGE_SOCKET="$socket" \
    --env NIXOS_IMAGE_SOURCE="$source" --env NIXOS_IMAGE_SPARSE="$sparse" --env NIXOS_IMAGE_CA_BUNDLE="$ca_bundle" \
    --env NIXOS_IMAGE_PATIENCE --env HTTP_PROXY --env HTTPS_PROXY --env NO_PROXY --env http_proxy --env https_proxy --env no_proxy \
    --env PIP_INDEX_URL --env PIP_EXTRA_INDEX_URL --env PIP_TRUSTED_HOST \
    "$orchestrator_id" orchestrator "$@"
}

# The run's volume, which no other run's containers see. The engine makes it with the first container that names it: so it is
# never there without one, and is not taken for a dead run's. Labelled as Compose does, whose services have it, too.
work_mount() {
  printf %s "type=volume,source=nixos-image-work-$run,target=/var/nixos-image,volume-label=$label"
  printf ',volume-label=%s' "org.nixos-image.run=$run" "com.docker.compose.project=nixos-image-$run" com.docker.compose.volume=work
}

# When the run has ended. Docker's client may have ended before the container: where a terminal was closed it does.
forget_run() {
  [ -n "$mounted" ] || return 0
  mounted=
  tries=20
  until docker volume rm "nixos-image-work-$run" > /dev/null 2>&1; do
    docker volume inspect "nixos-image-work-$run" > /dev/null 2>&1 && [ "$tries" -gt 0 ] || return 0
    tries=$((tries - 1))
    sleep 1
  done
}
