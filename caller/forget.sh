# After `down`: removes what Compose cannot remove, because Compose ran in the orchestrator's container.
# shellcheck shell=sh

# forget_dead: removes temporary folders of run.sh processes that were killed. Their names contain the process ID, and `mark` is in
# them: nixos-image-24.05 may be a folder of the user's. A process may be invisible from here (another container), so only folders that
# have not changed for a day are removed, and only the caller's, which nobody else may write to: another user, who may write to the folder
# for temporary files, could replace what is in such a folder by a link meanwhile.
forget_dead() {
  for left in "${TMPDIR:-/tmp}"/nixos-image-*.*; do
    pid=${left##*/nixos-image-}
    pid=${pid%%.*}
    case $pid in '' | *[!0123456789]*) continue ;; esac
    [ ! -e "$left/mark" ] || kill -0 "$pid" 2> /dev/null || [ -z "$(find "$left" -prune -user "$(id -u)" -perm 700 -mmin +1440)" ] || rm -rf "$left"
  done
}

# forget ARGUMENTS...: removes this project's containers, networks, volumes (-v) and images (--rmi), as `down ARGUMENTS` asks
forget() {
  volumes=
  images=
  for word in "$@"; do
    case $word in
      -v | --volumes) volumes=1 ;;
      --rmi | --rmi=*) images=1 ;;
    esac
  done
  complaint=
  list ps -aq --filter label=$label && remove 'rm -f' # containers of runs and of failed image builds
  list network ls -q --filter label=$label && remove 'network rm'
  [ -z "$volumes" ] || { list volume ls -q --filter label=$label && remove 'volume rm'; }
  [ -n "$images" ] || return 0
  list images -q --filter label=$label && remove 'rmi -f'
  list images --format '{{.Repository}}' $base && remove rmi # by name only: it may be the user's own image, with our tag
  # Untagged build stages, from the top down: each removal frees the parent images.
  last=
  while list images -aq --filter label=$label --filter dangling=true && [ "$listed" != "$last" ]; do
    last=$listed
    remove 'rmi -f'
  done
  list images -q --filter label=$label || { [ -n "$volumes" ] && list volume ls -q --filter label=$label; } || return 0
  die 3 "not everything could be removed: $complaint" "end what uses it, then call run.sh again; docker ps -a lists containers"
}

# remove COMMAND: removes the ids and names in $listed
remove() {
  # shellcheck disable=SC2086  # our own words, then ids and names
  ask_long $1 $listed || complaint=$(tail -n 1 "$state/log")
}
