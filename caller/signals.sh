# Passes signals on to the container or process at work, and sets the exit code. shellcheck shell=sh

on_signal() {
  stopped=$1
  if [ -n "$container" ]; then
    # The container may still be starting, or its process 1 may not have handlers yet: repeat the signal until the container has
    # ended, even if Docker's client ends first. The orchestrator handles the first signal and ignores others.
    (
      trap '' HUP TERM
      tries=50
      while [ "$tries" -gt 0 ]; do
        docker kill --signal "$1" "$container" > /dev/null 2>&1 || kill -0 "$child" 2> /dev/null || break
        kill -0 "$child" 2> /dev/null || tries=$((tries - 1))
        sleep 1
      done
    ) &
  elif [ -n "$child" ]; then
    # shellcheck disable=SC2046  # numbers
    kill -TERM $(family "$child") 2> /dev/null
  fi
}

# family PID: prints PID and all its descendants. A function in the background is a shell, whose child processes must end, too.
family() {
  ps -A -o pid= -o ppid= 2> /dev/null | awk -v top="$1" '
    { parent[$1] = $2 }
    END { print top; for (p in parent) { for (q = p; q in parent && q != top && q != parent[q]; q = parent[q]); if (q == top && p != top) print p } }'
}

# await PID: waits for the process and returns its exit code, also if signals arrive meanwhile
await() {
  child=$1
  [ -z "$stopped" ] || on_signal "$stopped" # the signal arrived before the process was started
  while :; do
    wait "$1"
    code=$?
    kill -0 "$1" 2> /dev/null || break
  done
  child=
  return "$code"
}

end_if_stopped() {
  case $stopped in
    INT) die 130 "interrupted during $1" ;;
    TERM) die 143 "terminated during $1" ;;
  esac
}

# with_life SECONDS WHAT COMMAND...: runs the command with a time limit, its output in $state/log, and prints WHAT every 2 seconds
with_life() {
  limit=$1 what=$2
  shift 2
  : > "$state/log"
  "$@" >> "$state/log" 2>&1 < /dev/null &
  job=$!
  (
    seconds=0
    while sleep 1 > /dev/null 2>&1 && seconds=$((seconds + 1)) && kill -0 $job 2> /dev/null; do
      if [ $seconds -ge "$limit" ]; then
        echo "it was ended after $limit s" >> "$state/log"
        # shellcheck disable=SC2046  # numbers
        kill -TERM $(family $job) 2> /dev/null
      fi
      if [ "$columns" -gt 0 ]; then
        printf '\r  %s (%s s)' "$what" $seconds >&2
      elif [ $((seconds % 2)) = 1 ]; then
        say "$what ($seconds s)"
      fi
    done
  ) &
  ticker=$!
  await $job
  result=$?
  kill $ticker 2> /dev/null
  wait $ticker 2> /dev/null
  [ "$columns" = 0 ] || printf '\r\033[2K' >&2
  return $result
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
