# Passes signals on to the container or process at work, and sets the exit code.
# shellcheck shell=sh

on_signal() {
  stopped=$1
  : > "$state/stopped" # for subshells: they receive no signal and look for this file
  if [ -n "$container" ]; then
    tell_container "$1" &
  elif [ -n "$asking" ]; then
    end_family "$child"
  elif [ -n "$child" ]; then
    # shellcheck disable=SC2046  # numbers
    kill -TERM $(family "$child") 2> /dev/null
  fi
}

# end_family PID: ends PID and all its descendants at once, also if they ignore signals
end_family() {
  # shellcheck disable=SC2046  # numbers
  kill -KILL $(family "$1") 2> /dev/null
  wait "$1" 2> /dev/null
}

# family PID: prints all descendants of PID, then PID. A function in the background is a shell, whose child processes must end,
# too, and before it: whoever waits for PID may end the process that ends them.
family() {
  ps -A -o pid= -o ppid= 2> /dev/null | awk -v top="$1" '
    { parent[$1] = $2 }
    END { for (p in parent) { for (q = p; q in parent && q != top && q != parent[q]; q = parent[q]); if (q == top && p != top) print p } print top }'
}

# await PID: waits for the process and returns its exit code, also if signals arrive meanwhile
await() {
  child=$1
  [ -z "$stopped" ] || on_signal "$stopped" # the signal arrived before the process was started
  while :; do
    wait "$1" 2> /dev/null # some shells print which signal ended it
    waited=$?
    kill -0 "$1" 2> /dev/null || break
  done
  child=
  return "$waited"
}

# regardless COMMAND...: runs the command as if no signal had been received; sets $again to a signal that arrives meanwhile
regardless() {
  before=$stopped stopped=
  "$@"
  regardless=$?
  again=$stopped
  stopped=${stopped:-$before}
  return $regardless
}

end_if_stopped() {
  case $stopped in
    INT) die 130 "interrupted during $1" ;;
    TERM) die 143 "terminated during $1" ;;
  esac
}

# with_life SECONDS WHAT COMMAND...: runs the command with a time limit, its output in $state/log, and prints WHAT every 2 seconds
# (for questions to Docker, from the third second on). Creates $state/late if the command exceeds the limit.
with_life() {
  limit=$1 what=$2
  shift 2
  : > "$state/log"
  rm -f "$state/late"
  "$@" >> "$state/log" 2>&1 < /dev/null &
  job=$!
  (
    seconds=0
    while sleep 1 > /dev/null 2>&1 && seconds=$((seconds + 1)) && kill -0 $job 2> /dev/null; do
      if [ $seconds -ge "$limit" ]; then
        echo "it was ended after $limit s" >> "$state/log"
        : > "$state/late"
        # shellcheck disable=SC2046  # numbers
        if [ -n "$asking" ]; then kill -KILL $(family $job); else kill -TERM $(family $job); fi 2> /dev/null
      fi
      if [ -z "$asking" ] || [ $seconds -ge 3 ]; then tell_life "$what" $seconds; fi
    done
  ) &
  ticker=$!
  await $job
  result=$?
  end_life
  return $result
}

# show_life WHAT JOB [FIRST]: prints WHAT every 2 seconds while the process JOB lives, until end_life; without a terminal from second
# FIRST on, an odd number (default: 1)
show_life() {
  what=$1 job=$2 first=${3:-1}
  (
    seconds=0
    while sleep 1 > /dev/null 2>&1 && seconds=$((seconds + 1)) && kill -0 "$job" 2> /dev/null; do
      [ "$columns" = 0 ] && [ $seconds -lt "$first" ] || tell_life "$what" $seconds
    done
  ) &
  ticker=$!
}

end_life() {
  kill -KILL $ticker 2> /dev/null # a signal that can be caught gets lost before the subshell has begun
  wait $ticker 2> /dev/null
  [ "$columns" = 0 ] || printf '\r\033[2K' >&2
}

# tell_life WHAT SECONDS: on a terminal it is a line that the next one replaces
tell_life() {
  if [ -n "$quiet" ]; then
    return
  elif [ "$columns" -gt 0 ]; then
    printf '\r  %s (%s s)' "$(printf '%s\n' "$1" | plain)" "$2" >&2
  elif [ $(($2 % 2)) = 1 ]; then
    say "$1 ($2 s)"
  fi
}

# watch_terminal: ends run.sh when its terminal is closed. Some parents, such as nohup, ignore SIGHUP, and then nobody could quit
# the machine.
watch_terminal() {
  while sleep 1 > /dev/null 2>&1; do
    [ -t 3 ] || { kill -TERM $$; return; }
  done
}

trap 'on_signal INT' INT
trap 'on_signal TERM' TERM HUP
trap on_resize WINCH
# A limit of the size of files (ulimit -f) then fails a write, as a full disk does; the signal would end run.sh without a word.
trap '' XFSZ
