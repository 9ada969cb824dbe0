# The lock of the output folder: runs place their files there one after the other. It is a folder, because mkdir is atomic on every
# file system; macOS has no flock.
# shellcheck shell=sh

# lock_out: takes the lock of $out, which `unlock` releases. Waits for another run's lock, and removes that of a dead run.
lock_out() {
  lock=$out/.nixos-image.lock
  waits=0
  until mkdir "$lock" 2> "$state/tar"; do
    [ -d "$lock" ] || { refuse "$lock cannot be made"; return; }
    ! break_dead || continue
    [ $waits != 0 ] || say "waiting: another run is writing to $out"
    waits=$((waits + 1))
    [ ! -e "$state/stopped" ] || return
    [ $waits -le 600 ] || { refuse "another run has the lock $lock" "remove it if no run on any computer uses it"; return; }
    sleep 1
  done
  vouch || {
    unlock 2> /dev/null # fails if it is another user's
    refuse "$lock cannot be written to" "free space there, or choose an output folder that no other user may write to (-o)"
  }
}

# unlock: removes the lock and its one file. Whoever may write to $out may have given its name to another folder, or to a link to one.
unlock() { (cd -P "$lock" && is_below_out "$lock" && case $(ls -A) in "" | holder) rm -f ./holder ;; *) false ;; esac) && rmdir "$lock"; }

# hold: writes to the new file `holder` of the working directory, in which no other user may write, which process holds it: this subshell;
# $$ is the main script's
hold() {
  pid=$(exec sh -c 'echo "$PPID"')
  (set -C && printf '%s %s %s\n' "$pid" "$(computer)" "$(born "$pid")" > ./holder)
}

# vouch: gives this process' holder to the lock, by a hard link: what another user has put in its place meanwhile, a pipe or a link to a
# device, is not opened. Where there are no hard links (FAT), there are no pipes and no symbolic links either.
vouch() {
  ln ./holder "$lock/" 2> /dev/null && return
  ! ln ./holder ./0 2> /dev/null || { rm ./0; return 1; }
  (set -C && cat ./holder > "$lock/holder") 2> /dev/null
}

# computer: prints one word for those whose processes can be seen from here: two computers may have one name, and containers of one
# computer their own processes
computer() {
  printf '%s/' "$(uname -n)"
  { cat /etc/machine-id; readlink /proc/self/ns/pid; } 2> /dev/null | put_sum | cut -c 1-16
}

# born PID: prints the start time of a process: another process may get the same PID later
born() {
  if [ -r "/proc/$1/stat" ]; then sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20
  else TZ=UTC LC_ALL=C ps -o lstart= -p "$1" | tr -s ' ' _; fi 2> /dev/null
}

# is_dead FOLDER: whether the process that holds it has ended. One on another computer counts as alive.
is_dead() {
  if is_file "$1/holder" && in_time "$patience" head -c 1000 "$1/holder" > "$state/holder" && read -r pid host time < "$state/holder"; then
    case $pid in '' | *[!0123456789]*) pid=0 time=none ;; esac # nobody's
    [ "$host" = "$(computer)" ] && { [ "$(born "$pid")" != "$time" ] || { [ -z "$time" ] && ! kill -0 "$pid"; }; }
  else
    [ -n "$(find "$1" -prune -mmin +1)" ] # the holder of the lock died before it wrote its PID
  fi 2> /dev/null
}

# break_dead: removes a dead run's lock. A second lock makes sure that it is not the lock of the next run by then, and tells whether the
# time here is that of the folder's computer: else a lock that was just made could look old.
break_dead() {
  is_dead "$lock" || return
  if ! mkdir "$lock.broken" 2> /dev/null; then
    [ -z "$(find "$lock.broken" -prune -mmin +1 2> /dev/null)" ] || rmdir "$lock.broken"
    return 1
  fi
  { is_file "$lock/holder" || [ -n "$(find "$lock.broken" -prune -mmin -1)" ]; } && is_dead "$lock" \
    && unlock 2> /dev/null # fails if it is another user's
  rmdir "$lock.broken"
  [ ! -d "$lock" ]
}
