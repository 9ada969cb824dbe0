# After `down`: removes what Compose cannot remove, because Compose ran in the orchestrator's container.
# shellcheck shell=sh

# forget ARGUMENTS...: after `down` with ARGUMENTS
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
  list ps -aq --filter label=$label && remove 'rm -f' # those of runs, and of builds that failed halfway
  list network ls -q --filter label=$label && remove 'network rm'
  [ -z "$volumes" ] || { list volume ls -q --filter label=$label && remove 'volume rm'; }
  [ -n "$images" ] || return 0
  list images -q --filter label=$label && remove 'rmi -f'
  list images --format '{{.Repository}}' $base && remove rmi # by name: the image may be the user's own, under our tag
  # Stages that no tag names, from the top down: each removal frees its parents.
  last=
  while list images -aq --filter label=$label --filter dangling=true && [ "$listed" != "$last" ]; do
    last=$listed
    remove 'rmi -f'
  done
  list images -q --filter label=$label || { [ -n "$volumes" ] && list volume ls -q --filter label=$label; } || return 0
  die 3 "not all could be removed: $(printf %s "$complaint" | plain)"
}

# remove COMMAND: what is in $listed
remove() {
  # shellcheck disable=SC2086  # words of our own, then ids and names
  ask_long $1 $listed || complaint=$(tail -n 1 "$state/log")
}
