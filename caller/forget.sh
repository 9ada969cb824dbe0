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
  remove 'rm -f' "$(docker_names ps -aq --filter label=$label)" # those of runs, and of builds that failed halfway
  remove 'network rm' "$(docker_names network ls -q --filter label=$label)"
  [ -z "$volumes" ] || remove 'volume rm' "$(docker_names volume ls -q --filter label=$label)"
  [ -n "$images" ] || return 0
  remove 'rmi -f' "$(docker_names images -q --filter label=$label)"
  remove rmi "$(docker_names images --format '{{.Repository}}' $base)" # by name: the image may be the user's own, under our tag
  # Stages that no tag names, from the top down: each removal frees its parents.
  while left=$(docker_names images -aq --filter label=$label --filter dangling=true) && [ -n "$left" ]; do
    before=$left
    remove 'rmi -f' "$left"
    left=$(docker_names images -aq --filter label=$label --filter dangling=true)
    [ "$left" != "$before" ] || break
  done
  left=$(docker_names images -q --filter label=$label)
  [ -z "$left$(docker_names volume ls -q --filter label=$label)" ] || die 3 "not all could be removed: $(tail -n 1 "$state/log" | plain)"
}

remove() {
  # shellcheck disable=SC2086  # words of our own, then ids and names
  [ -z "$2" ] || docker $1 $2 > /dev/null 2>> "$state/log"
}
