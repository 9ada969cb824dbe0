# Runs all docker commands of run.sh, with time limits, and interruptible by signals (tests/tools/test_lint.py: no other file does).
# shellcheck shell=sh

# ask ARGUMENTS...: runs docker and returns its exit code; its stdout is in $state/said, its stderr in $state/log. Exits if the
# engine does not answer.
ask() { ask_within "$patience" "$@"; heed $?; }

# ask_long ARGUMENTS...: like ask, with the limit for work on disks
ask_long() { ask_within "$heavy" "$@"; heed $?; }

# ask_within SECONDS ARGUMENTS...: like ask, but returns if the engine does not answer. After one unanswered call the limit is 2
# seconds.
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

# saying COMMAND...: replaces its subshell by the command, with stdout in $state/said
saying() { exec "$@" > "$state/said"; }

is_silent() { [ -e "$state/silent" ]; }

# heed CODE: returns CODE; exits if a signal was received or the engine does not answer
heed() {
  end_if_stopped "the wait for Docker"
  ! is_silent || no_answer
  return "$1"
}

no_answer() {
  die 3 "Docker does not answer" "restart it, or set NIXOS_IMAGE_PATIENCE above $patience (seconds); then ./run.sh clean"
}

# docker_works WHAT COMMAND...: runs COMMAND, which calls `client`, as long as the engine answers; prints WHAT meanwhile
docker_works() {
  with_life 7200 "$1" watched "$@"
  works=$?
  ! is_silent || { end_if_stopped "$1"; no_answer; }
  return "$works"
}

# watched WHAT COMMAND...: runs COMMAND while watch_engine asks the engine; WHAT, which with_life prints, is ignored. For a subshell.
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

# client ARGUMENTS...: runs docker with the current streams and stores its pid, with which `await_client` or `watched` can kill it
client() {
  # shellcheck disable=SC2016  # another shell's program
  sh -c 'echo $$ > "$0" && exec docker "$@"' "$state/client" "$@"
  ended=$?
  rm -f "$state/client"
  return $ended
}

# await_client PID: awaits the process; its `client` is killed if the engine does not answer it: $container does not run then
await_client() {
  watch_engine "$1" container inspect --format '{{.State.Running}}' "$container" &
  watching=$!
  await "$1"
  awaited=$?
  end_family $watching
  return $awaited
}

# watch_engine PID ARGUMENTS...: while PID runs, runs docker ARGUMENTS periodically; kills its `client` if that fails or says `false` for long.
# Once run.sh has been killed, nobody waits for the container any more: it is told to end.
watch_engine() {
  watched=$1
  shift
  seconds=0 absent=0
  while sleep 1 > /dev/null 2>&1 && seconds=$((seconds + 1)) && kill -0 "$watched" 2> /dev/null; do
    [ -z "$container" ] || kill -0 $$ 2> /dev/null || limited "$patience" kill --signal TERM "$container" > /dev/null
    [ $((seconds % beat)) = 0 ] && [ -e "$state/client" ] || continue
    running=$(limited "$patience" "$@")
    case $?:$running in
      0:false) absent=$((absent + beat)) ;;
      0:*) absent=0 ;;
      124:*) absent=$heavy ;;
      *) absent=$((absent + beat)) ;;
    esac
    [ "$absent" -lt "$heavy" ] || end_client
  done
}

# end_client: kills the `client`, which would wait for ever, because the engine has not answered another call
end_client() {
  client=$(cat "$state/client" 2> /dev/null) || return # the client has ended meanwhile
  : > "$state/silent"
  end_family "$client"
}

# limited SECONDS ARGUMENTS...: runs docker with a time limit and its stdout; returns its exit code, or 124; must run in a subshell
limited() {
  left=$1
  shift
  docker "$@" 2> /dev/null < /dev/null &
  limited=$!
  while kill -0 $limited 2> /dev/null; do
    if [ "$left" = 0 ] || [ ! -d "$state" ]; then # no time is left, or run.sh has ended
      end_family $limited
      return 124
    fi
    left=$((left - 1))
    sleep 1 > /dev/null 2>&1
  done
  wait $limited
}

# tell_container SIGNAL: sends the signal to $container until that has ended; must run in a subshell. The container may still be
# starting, or its process 1 may not have handlers yet. The orchestrator handles the first signal and ignores others.
tell_container() {
  trap '' HUP TERM
  tries=50
  [ "$patience" -le 10 ] || patience=10
  while [ "$tries" -gt 0 ]; do
    limited "$patience" kill --signal "$1" "$container" > /dev/null
    case $? in
      0) ;;
      124) end_client; return ;;
      *) kill -0 "$child" 2> /dev/null || return ;;
    esac
    kill -0 "$child" 2> /dev/null || tries=$((tries - 1))
    sleep 1
  done
}
