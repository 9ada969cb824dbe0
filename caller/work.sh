# Runs the orchestrator: with tar streams of files to it and from it, or on the caller's terminal.
# shellcheck shell=sh

# prepare ARGUMENTS...: asks the orchestrator for its orders; its messages come after the line that shows life, which they would
# otherwise continue
prepare() {
  { trap '' HUP TERM; start -- prepare "$@" > "$state/orders" 2> "$state/prepared"; } &
  show_life "starting" $! 3
  await_client "$job"
  prepared=$?
  end_life
  cat "$state/prepared" >&2
  return $prepared
}

# not_started: ends run.sh, whose first container Docker could not start. Each verb needs one, also those that remove.
not_started() {
  ours="-q --filter label=$label"
  ! grep -qi 'no space left on device' "$state/prepared" || die 4 "Docker's disk is full: no container can start" \
    "free space there; this removes our containers and the Nix store: docker rm -f \$(docker ps -a $ours); docker volume rm \$(docker volume ls $ours)"
  die 3 "Docker could not start the orchestrator" \
    "see Docker's message above; if the socket on the engine's host is not $socket, set NIXOS_IMAGE_SOCKET"
}

# run_streams: runs the orchestrator with files in both directions; messages go to stderr, paths of images to stdout.
run_streams() {
  container=nixos-image-$run
  {
    # A closed terminal signals all its processes at once, as `timeout` does. Only the main script handles the signal and passes
    # it to the orchestrator; these processes wait for the orchestrator's end.
    trap '' HUP TERM
    if [ -s "$state/send" ] || [ -s "$state/whole" ] || [ -s "$state/mounted" ] || [ -s "$state/kept" ] || [ -n "$(ls "$state/.earlier" "$state/.delivered")" ]; then
      { pack | start -i "--env NIXOS_IMAGE_INPUT=1" -- "$@"; echo $? > "$state/code"; } | unpack
    else
      { start -- "$@" < /dev/null; echo $? > "$state/code"; } | unpack
    fi
  } &
  await_client $!
  unpacked=$?
  container=
  heed_end
  code=$(cat "$state/code" 2> /dev/null || echo 70)
  # If the run itself has failed, too, only a refused file is told.
  if [ "$unpacked" != 0 ] && [ -z "$stopped" ] && { [ "$code" = 0 ] || [ -s "$state/refused" ]; }; then
    reason=$(cat "$state/refused" "$state/tar" "$state/untar" 2> /dev/null | sed q)
    [ -n "$reason" ] || need_room
    say "error: the image could not be written to $out${reason:+: $reason}"
    [ ! -s "$state/way_out" ] || say "try: $(cat "$state/way_out")"
    [ "$code" != 0 ] || code=8
  fi
  after_death
  return "$code"
}

# heed_end: ends run.sh if the engine has not answered during the run
heed_end() { ! is_silent || heed 3; }

# after_death: cleans up if the orchestrator could not run or was killed; changes $code.
after_death() {
  case $code in
    125)
      say "error: Docker could not run the orchestrator, or Docker has stopped"
      code=3
      ;;
    137)
      say "error: the orchestrator was killed; cleaning up"
      [ ! -s "$state/image" ] || say "the images whose paths were printed are whole: the same command keeps them and makes the rest"
      regardless new_run
      container=nixos-image-$run
      { trap '' HUP TERM; start -- clean > /dev/null; } &
      regardless await_client $! || say "error: the cleanup failed, too: run ./run.sh clean"
      container=
      ;;
  esac
}

# run_terminal: runs the orchestrator on the caller's terminal, if there is one; files are sent before.
run_terminal() {
  flags=-i
  sent=
  if [ -t 0 ] && [ -t 1 ]; then flags=-it terminal=$(stty -g); fi
  if [ -s "$state/send" ] || [ -s "$state/whole" ] || [ -s "$state/mounted" ] || [ -s "$state/kept" ]; then
    sent=1
    # The container is created first, so that the run's work volume always belongs to a container.
    container=nixos-image-$run
    how=create
    { trap '' HUP TERM; start $flags -- "$@" > /dev/null; } &
    await_client $! || { container=; heed_end; code=125; after_death; return $code; }
    how=run
    container=nixos-image-$run-send
    { trap '' HUP TERM; pack | start -i "--env NIXOS_IMAGE_INPUT=1" -- receive > /dev/null; } &
    await_client $!
    code=$?
    if [ $code != 0 ] || [ -n "$stopped" ]; then
      container=
      regardless ask_within "$heavy" rm -f "nixos-image-$run"
      heed_end
      after_death
      end_if_stopped "the sending of files"
      return $code
    fi
  fi
  container=nixos-image-$run
  # Docker's client runs in the background: in the foreground, this shell would notice a closed terminal only after the client's
  # end, which does not come.
  { trap '' HUP TERM; if [ -n "$sent" ]; then client start --attach --interactive "$container"; else start $flags -- "$@"; fi <&3; } &
  job=$!
  watcher=
  if [ $flags = -it ]; then watch_terminal & watcher=$!; fi
  await_client $job
  code=$?
  [ -z "$watcher" ] || { kill $watcher; wait $watcher; } 2> /dev/null
  container=
  if [ $flags = -it ] && is_silent; then stty "$terminal"; fi <&3 # Docker's client was killed and could not restore the terminal
  heed_end
  after_death
  return $code
}

# open_shell: opens a shell in the derivation that has failed, if one has; $code stays the failure's. A build fails with exit code 4
# (disk or memory), 6 or 13.
open_shell() {
  failed=$code
  : > "$state/send" && : > "$state/whole" && : > "$state/kept" && : > "$state/mounted"
  run_terminal debug-shell
  code=$failed
}

# run_hosts test --hosts KINDS...: tests this project on simulated Docker hosts, and exits
run_hosts() {
  shift 2
  NIXOS_IMAGE_SOURCE=$(source_state) "$root/tests/simulated_hosts/run.sh" "$@"
  exit
}
