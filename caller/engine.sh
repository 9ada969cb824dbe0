# The one door to Docker on the caller's side: whatever asks the engine has a limit, and is not deaf to signals. No other part
# calls docker (tests/tools/test_lint.py).
# shellcheck shell=sh

# In seconds: what the engine has for an answer, what it has where it works on disks, and how often it is asked whether it is
# there while something takes its time. What is no number is refused by the orchestrator.
set_patience() {
  patience=${NIXOS_IMAGE_PATIENCE:-60}
  patience=${patience%%.*}
  case $patience in *[!0123456789]*) patience=60 ;; '' | 0*) patience=1 ;; esac
  heavy=$((3 * patience))
  beat=$(((patience + 1) / 2))
  [ "$beat" -le 20 ] || beat=20
}

# ask ARGUMENTS...: Docker's exit code; what it says is in $state/said, what it complains of in $state/log. Ends the script where
# there is no answer.
ask() { ask_within "$patience" "$@"; heed $?; }

# ask_long ARGUMENTS...: the same of what works on disks
ask_long() { ask_within "$heavy" "$@"; heed $?; }

# ask_within SECONDS ARGUMENTS...: the same, but goes on. Who has left a call unanswered has 2 seconds for each other one.
ask_within() {
  within=$1
  shift
  ! is_silent || within=2
  asking=1
  with_life "$within" "waiting for Docker" saying docker "$@"
  within=$?
  asking=
  [ ! -e "$state/late" ] || : > "$state/silent"
  return $within
}

# in a shell of its own, whose place it takes
saying() { exec "$@" > "$state/said"; }

is_silent() { [ -e "$state/silent" ]; }

# heed CODE: CODE, if no signal has come and the engine is there
heed() {
  end_if_stopped "the wait for Docker"
  ! is_silent || no_answer
  return "$1"
}

no_answer() {
  die 3 "Docker does not answer" "restart it, or give it more than $patience seconds in NIXOS_IMAGE_PATIENCE; then ./run.sh clean"
}

# docker_works WHAT COMMAND...: what takes its time, as long as the engine answers; COMMAND's Docker is a `client`
docker_works() {
  with_life 7200 "$1" watched "$@"
  works=$?
  ! is_silent || { end_if_stopped "$1"; no_answer; }
  return "$works"
}

# watched WHAT COMMAND...: in a shell of its own
watched() {
  shift
  "$@" &
  watched=$!
  watch_engine "$watched" images --quiet "$base" &
  watching=$!
  wait "$watched" 2> /dev/null
  works=$?
  end_family "$watching"
  return "$works"
}

# client ARGUMENTS...: docker with these streams, for `await_client` or `watched`
client() {
  # shellcheck disable=SC2016  # another shell's program
  sh -c 'echo $$ > "$0" && exec docker "$@"' "$state/client" "$@"
  ended=$?
  rm -f "$state/client"
  return $ended
}

# await_client PID: `await` it; a `client` in it is ended where the engine does not answer, or has no $container (any more)
await_client() {
  watch_engine "$1" container inspect "$container" &
  watching=$!
  await "$1"
  awaited=$?
  end_family $watching
  return $awaited
}

# watch_engine PID QUESTION...: while PID runs, see to it that a `client` in it does not wait for an engine that is silent
watch_engine() {
  watched=$1
  shift
  seconds=0 absent=0
  while sleep 1 > /dev/null 2>&1 && seconds=$((seconds + 1)) && kill -0 "$watched" 2> /dev/null; do
    [ $((seconds % beat)) = 0 ] && [ -e "$state/client" ] || continue
    limited "$patience" "$@"
    case $? in
      0) absent=0 ;;
      124) absent=$heavy ;;
      *) absent=$((absent + beat)) ;;
    esac
    [ "$absent" -lt "$heavy" ] || end_client
  done
}

# The engine has left a call unanswered: who waits for another answer waits for good.
end_client() {
  client=$(cat "$state/client" 2> /dev/null) || return # it has ended meanwhile
  : > "$state/silent"
  end_family "$client"
}

# limited SECONDS ARGUMENTS...: in a shell of its own; docker's exit code, or 124 where it takes longer
limited() {
  left=$1
  shift
  docker "$@" > /dev/null 2>&1 < /dev/null &
  limited=$!
  while kill -0 $limited 2> /dev/null; do
    if [ "$left" = 0 ] || [ ! -d "$state" ]; then # or the script has ended
      end_family $limited
      return 124
    fi
    left=$((left - 1))
    sleep 1 > /dev/null 2>&1
  done
  wait $limited
}

# tell_container SIGNAL: until it has ended, in a shell of its own. It may be about to start, or its process 1 not listening yet.
# The orchestrator takes the first signal and ignores the others.
tell_container() {
  trap '' HUP TERM
  tries=50
  [ "$patience" -le 10 ] || patience=10
  while [ "$tries" -gt 0 ]; do
    limited "$patience" kill --signal "$1" "$container"
    case $? in
      0) ;;
      124) end_client; return ;;
      *) kill -0 "$child" 2> /dev/null || return ;;
    esac
    kill -0 "$child" 2> /dev/null || tries=$((tries - 1))
    sleep 1
  done
}
