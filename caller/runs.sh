# A run: its id, the orchestrator's container, and the volume that its containers share.
# shellcheck shell=sh

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
