# A run: the orchestrator at work, with files in both directions or on the caller's terminal.
# shellcheck shell=sh

# A run with files in both directions; what people read goes to stderr, the image's path to stdout.
run_streams() {
  container=nixos-image-$run
  {
    # A terminal that is closed tells all its processes at once, as `timeout` does. Only the script itself may listen: it tells
    # the orchestrator, the others see to its end.
    trap '' HUP TERM
    if [ -s "$state/send" ] || [ -s "$state/whole" ]; then
      { pack | start -i "--env NIXOS_IMAGE_INPUT=1" -- "$@"; echo $? > "$state/code"; } | unpack
    else
      { start -- "$@" < /dev/null; echo $? > "$state/code"; } | unpack
    fi
  } &
  await $!
  unpacked=$?
  container=
  code=$(cat "$state/code" 2> /dev/null || echo 70)
  if [ "$code" = 0 ] && [ $unpacked != 0 ]; then
    say "error: the image could not be written to $out: $(tail -n 1 "$state/tar" | plain)"
    code=8
  fi
  after_death
  return "$code"
}

# Where the orchestrator could not end by itself.
after_death() {
  case $code in
    125)
      say "error: Docker could not run the orchestrator, or has stopped meanwhile"
      code=3
      ;;
    137)
      say "error: the orchestrator was killed; removing what it left"
      run=$(new_run)
      container=nixos-image-$run
      start -- clean > /dev/null || say "error: that failed too: run ./run.sh clean"
      container=
      ;;
  esac
}

# A run on the caller's terminal, where there is one. Files are sent before.
run_terminal() {
  flags=-i
  sent=
  if [ -t 0 ] && [ -t 1 ]; then flags=-it; fi
  if [ -s "$state/send" ] || [ -s "$state/whole" ]; then
    sent=1
    # Created before: so there is always a container of the run's, which has its volume.
    container=nixos-image-$run
    how=create
    start $flags -- "$@" > /dev/null || { code=125; container=; after_death; return $code; }
    how=run
    container=nixos-image-$run-send
    { trap '' HUP TERM; pack | start -i "--env NIXOS_IMAGE_INPUT=1" -- receive > /dev/null; } &
    await $!
    code=$?
    if [ $code != 0 ] || [ -n "$stopped" ]; then
      remove 'rm -f' "nixos-image-$run"
      after_death
      end_if_stopped "the sending of files"
      return $code
    fi
  fi
  container=nixos-image-$run
  # Not in the foreground: there a terminal that is closed would be noticed only when Docker's client has ended, which does not.
  { trap '' HUP TERM; if [ -n "$sent" ]; then docker start --attach --interactive "$container"; else start $flags -- "$@"; fi <&3; } &
  job=$!
  watcher=
  if [ $flags = -it ]; then watch_terminal & watcher=$!; fi
  await $job
  code=$?
  [ -z "$watcher" ] || { kill $watcher; wait $watcher; } 2> /dev/null
  container=
  after_death
  return $code
}
