# Signals: told to whatever is at work, then the exit code says so.
# shellcheck shell=sh

on_signal() {
  stopped=$1
  if [ -n "$container" ]; then
    # The container may be about to start, or its process 1 not listening yet: tell it until it has ended, even if what waits
    # for it has ended first. The orchestrator takes the first signal and ignores the others.
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

# family PID: it and all processes below it. A function in the background is a shell: what it runs must end, too.
family() {
  ps -A -o pid= -o ppid= 2> /dev/null | awk -v top="$1" '
    { parent[$1] = $2 }
    END { print top; for (p in parent) { for (q = p; q in parent && q != top && q != parent[q]; q = parent[q]); if (q == top && p != top) print p } }'
}

# await PID: its exit code, whatever signals come meanwhile
await() {
  child=$1
  [ -z "$stopped" ] || on_signal "$stopped" # it came before there was anybody to tell
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

# with_life SECONDS WHAT COMMAND...: runs it, for that long at most, with its output in $state/log and a sign of life every 2
# seconds
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

# A closed terminal's SIGHUP is ignored below some callers, nohup among them; but nobody could leave the machine any more.
watch_terminal() {
  while sleep 1 > /dev/null 2>&1; do
    [ -t 3 ] || { kill -TERM $$; return; }
  done
}

trap 'on_signal INT' INT
trap 'on_signal TERM' TERM HUP
