# Removes what killed runs have left on this computer; after `down`, what Compose cannot remove, because it ran in the orchestrator's container.
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
    [ ! -e "$left/mark" ] || kill -0 "$pid" 2> /dev/null || [ -z "$(find "$left" -prune -user "$(id -u)" "(" -perm 700 -o -perm 2700 ")" -mmin +1440)" ] || rm -rf "$left"
  done
}

# forget_parts: removes partial deliveries of dead runs from $out, and names what has the name of one and is not known to be one. One of
# another computer or container, which may have another engine, counts as a living run's for a week.
forget_parts() {
  for part in "$out"/.nixos-image-*.part; do
    ! [ -d "$part" ] || (cd -P "$part" 2> /dev/null && is_below_out "$part" && forget_part)
  done
}

# is_below_out PATH: whether the working directory is PATH, a folder in $out, and not what a link of that name leads to
is_below_out() {
  top=$(physical "$out")
  [ "$PWD" = "${top%/}/${1##*/}" ]
}

# forget_part: removes the working directory, $part, if it is a partial delivery of a dead run. One that nobody had signed yet is empty. On
# a file system without rights, such as FAT, none is known to be one.
forget_part() {
  if is_delivery; then
    { is_dead . || [ -n "$(find . -prune -mmin +10080)" ]; } && rm -rf ./* && rmdir "$part"
  elif [ -n "$(find . -prune -user "$(id -u)" -mmin +10)" ]; then
    case $(ls -A) in '' | files) ! { rmdir ./files; rmdir "$part"; } 2> /dev/null || return 0 ;; esac
    ! is_dead . || say "$part has the name of a partial delivery, but may be a folder of yours: it stays; remove it if it is none"
  fi
}

# is_delivery: whether the working directory is a partial delivery of this user's. Whoever may write to the output folder may have given
# another folder of this user's that name, but can have put no `holder` of this user's into it.
is_delivery() {
  [ -d ./files ] && [ -n "$(find . -prune -user "$(id -u)" "(" -perm 700 -o -perm 2700 ")")" ] && [ -n "$(find ./holder -type f -user "$(id -u)" 2> /dev/null)" ] \
    && ! find . ! -name . -prune -print | grep -qvxE '\./(files|end|holder|[0-9]+)'
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
