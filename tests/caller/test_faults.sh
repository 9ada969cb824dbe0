#!/bin/sh
# Tests signals and kills at every stage: the error names the stage, the exit code is right, nothing is left.
. "$(dirname -- "$0")/lib.sh"
hold_table
before=$(table)
check "the table that is compared holds an entry" test -n "$before"

# start_demo: starts the demo in the background; its stderr is $work/err, its pid $demo
start_demo() {
  : > "$work/err" # the new process empties it later, perhaps after the first look
  # Restore SIGINT, which a non-interactive shell ignores in background jobs.
  env --default-signal=INT setsid "$project/run.sh" demo -o "$work/images" "$@" > "$work/out" 2> "$work/err" < /dev/null &
  demo=$!
}

# wait_line PATTERN: waits until the run prints it
wait_line() {
  tries=600
  while ! grep -qE -- "$1" "$work/err"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] && kill -0 "$demo" 2> /dev/null || return 1
    sleep 0.1
  done
}

wait_demo() {
  wait "$demo"
  got=$?
}

# told CODE PATTERN: whether the run ended with CODE and printed a line that matches
told() { [ "$got" = "$1" ] && grep -qE -- "$2" "$work/err"; }

# of SERVICE: prints the container of a service or of the orchestrator
of() { docker ps --format '{{.Names}}' --filter label=org.nixos-image | grep -E "$1" | head -n 1; }

for stage in 'start: ' 'build: ' 'assemble: ' 'boot: '; do
  for signal in INT TERM; do
    case $signal in INT) emulation=shared ;; TERM) emulation=private ;; esac
    start_demo --emulation "$emulation"
    check "SIG$signal during ${stage%: }: the stage is reached" wait_line "^$stage"
    # Like `timeout` and systemd, signal all processes at once.
    case $signal in INT) kill -INT "$demo" ;; TERM) kill -TERM "-$demo" ;; esac
    wait_demo
    case $signal in INT) code=130 ;; TERM) code=143 ;; esac
    check "SIG$signal during ${stage%: }: exit code $code and a word" told "$code" 'error: (interrupted|terminated)'
    check "SIG$signal during ${stage%: }: nothing is left" nothing_left
    check "SIG$signal during ${stage%: }: nor a partial file" no_partial_file
  done
done

# Closed terminal: under bash only run.sh gets SIGHUP, under other shells all of its processes do.
for shell in bash sh; do
  : > "$work/err"
  SHELL=/bin/$shell env --default-signal=HUP script -qfec "'$project/run.sh' demo --no-boot -o '$work/images'" "$work/err" \
    > /dev/null 2>&1 < /dev/null &
  demo=$!
  check "terminal closed below $shell: the start is reached" wait_line '^start: '
  kill -9 "$demo"
  wait_gone
  check "terminal closed below $shell: nothing is left" nothing_left
  check "terminal closed below $shell: nor a partial file" no_partial_file
done

start_demo --no-boot --emulation private
check "run.sh killed: the build is reached" wait_line '^build: '
kill -KILL "$demo"
wait_demo
tries=100
while [ -n "$(of '^nixos-image-')" ] && [ "$tries" -gt 0 ]; do tries=$((tries - 1)); sleep 0.1; done
check "run.sh killed: no container runs ten seconds later" test -z "$(of '^nixos-image-')"
check "run.sh killed: the orchestrator was told to end" grep -q '^error: terminated' "$work/err"
"$project/run.sh" clean > "$work/out" 2> "$work/err" < /dev/null
check "run.sh killed: nothing is left after clean" nothing_left

for service in registrar builder cleanup; do
  start_demo --no-boot --emulation shared
  wait_line '^start: ' && victim=
  while [ -z "$victim" ] && kill -0 "$demo" 2> /dev/null; do victim=$(of "$service-1"); done
  docker kill "$victim" > /dev/null
  wait_demo
  case $service in registrar) code=5 ;; builder) code=6 ;; cleanup) code=10 ;; esac
  check "$service killed: exit code $code, the stage is named" told "$code" "error: $service (was killed|ended).* during|error: cleanup ended"
  check "$service killed: nothing is left" nothing_left
done

start_demo --no-boot --emulation private
wait_line '^start: ' && victim=
while [ -z "$victim" ] && kill -0 "$demo" 2> /dev/null; do victim=$(of "builder-1"); done
docker kill "$victim" > /dev/null
wait_demo
check "private builder killed: exit code 6, the stage is named" told 6 'error: builder was killed during'
check "private builder killed: nothing is left" nothing_left

start_demo --emulation private
check "boot killed: the boot is reached" wait_line '^boot: '
victim=
while [ -z "$victim" ] && kill -0 "$demo" 2> /dev/null; do victim=$(of "boot-1"); done
docker kill "$victim" > /dev/null
wait_demo
check "boot killed: exit code 9, the stage is named" told 9 'error: boot was killed during boot'
check "boot killed: the image is there" test -s "$(cat "$work/out")"
check "boot killed: nothing is left" nothing_left

"$project/tests/forget-demo" # then something must be built
start_demo --no-boot --emulation shared
wait_line '^build: ' && victim=$(of "builder-1")
docker pause "$victim" > /dev/null
docker rm -f "$(of "cleanup-1")" > /dev/null
docker unpause "$victim" > /dev/null
wait_demo
check "cleanup removed: exit code 10, the stage is named" told 10 'error: cleanup was killed during build'
check "cleanup removed: nothing is left" nothing_left

# Simulate a run of another engine on this kernel: its entry appears meanwhile and must stay.
theirs() { docker exec host-holds-binfmt python3 -c "
import pathlib
from orchestrator.agents.emulation import binfmt
from orchestrator.shared import architectures
system = architectures.SYSTEMS[architectures.foreign_system(architectures.this_system())]
name = binfmt.entry_name('0badcafebabe', system)
$1"; }
start_demo --no-boot --emulation shared
check "another engine's run: ours is registered" wait_line '^registered '
theirs 'binfmt.register(binfmt.registration(name, system, pathlib.Path("/opt/qemu", system.emulator), binfmt.kernel_version()))'
wait_demo
check "another engine's run: ours ends well beside it" test "$got" = 0
"$project/run.sh" clean 2> "$work/err"
check "another engine's run: clean tells of its entry" grep -q 'kept binfmt_misc entries of another engine.*nixos-image-0badcafebabe' "$work/err"
theirs 'assert name in binfmt.entries(); binfmt.remove(name)'
check "another engine's run: its entry has stayed" test "$?" = 0
check "another engine's run: nothing of ours is left" nothing_left

start_demo --emulation shared
check "orchestrator killed: the boot is reached" wait_line '^boot: '
docker kill "$(of 'nixos-image-[0-9a-f]{12}$')" > /dev/null
wait_demo
check "orchestrator killed: said, with an exit code" told 137 'error: the orchestrator was killed'
check "orchestrator killed: nothing is left" nothing_left

start_demo --no-boot --emulation shared
wait_line '^start: '
docker kill "$(of 'nixos-image-[0-9a-f]{12}$')" > /dev/null
wait_demo
check "orchestrator killed early: said" told 137 'error: the orchestrator was killed'
"$project/run.sh" clean 2> /dev/null
check "orchestrator killed early: clean leaves nothing" nothing_left

check "no partial file is left" no_partial_file
start_demo --no-boot
wait_demo
check "the next run works" test "$got" = 0
check "nothing is left" nothing_left
finish
