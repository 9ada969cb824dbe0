# Shared by tests that run run.sh on the host, as a user would (signals, ownership, paths).
# shellcheck shell=sh
set -u
project=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
work=$(mktemp -d)
passed=0
failed=0

pass() { passed=$((passed + 1)); printf 'PASS %s\n' "$1"; }
fail() {
  failed=$((failed + 1))
  printf 'FAIL %s\n' "$1"
  [ ! -f "$work/err" ] || sed 's/^/     | /' "$work/err" | tail -n 30
  return 1
}

# programs NAME...: ends the script before it starts anything, if one of these is missing
programs() {
  for program; do
    command -v "$program" > /dev/null && continue
    echo "$program is missing, which $0 calls" >&2
    rm -rf "$work"
    exit 1
  done
}

# check NAME COMMAND...: passes if the command succeeds, and returns whether it did
check() {
  check_name=$1
  shift
  if "$@"; then pass "$check_name"; else fail "$check_name"; fi
}

# is_script FILE: whether a shell can read it; of a folder `sh -n` reads nothing, and is content
is_script() { test -s "$1" -a -f "$1" && sh -n "$1"; }

# expect NAME CODE PATTERN COMMAND...: exit code and a line on stderr; an empty PATTERN asks for none
expect() {
  name=$1 want=$2 pattern=$3
  shift 3
  "$@" > "$work/out" 2> "$work/err" < /dev/null
  got=$?
  if [ "$got" != "$want" ]; then fail "$name: exit code $got, expected $want"
  elif [ -n "$pattern" ] && ! grep -qE -- "$pattern" "$work/err"; then fail "$name: no line matches $pattern"
  else pass "$name"; fi
}

# Prints binfmt_misc's entries, as cleanup sees them; nothing if there are none.
table() {
  docker run --rm --pull never --network none --cap-drop ALL --cap-add SYS_ADMIN --security-opt apparmor=unconfined \
    --tmpfs /run --entrypoint python3 nixos-image-qemu-setup -c \
    'from orchestrator.agents.emulation import binfmt; binfmt.mount(); [print(e.name, repr(e.text)) for e in binfmt.entries().values()]'
}

# hold_table: keeps binfmt_misc mounted during the test, with another program's entry. Otherwise it would vanish with each run's
# last mount (Linux >= 6.7), and a comparison would prove nothing.
hold_table() {
  docker run -d --name host-holds-binfmt --network none --cap-drop ALL --cap-add SYS_ADMIN --security-opt apparmor=unconfined \
    --tmpfs /run --entrypoint python3 nixos-image-qemu-setup -u -c '
import pathlib, time
from orchestrator.agents.emulation import binfmt
from orchestrator.shared import architectures
binfmt.mount()
line = binfmt.registration("qemu-riscv64", architectures.SYSTEMS["riscv64-linux"], pathlib.Path("/opt/qemu/qemu-riscv64"), (5, 12))
(binfmt.MOUNT_POINT / "register").write_text(line)
print("held")
time.sleep(3600)' > /dev/null
  until docker logs host-holds-binfmt 2> /dev/null | grep -q held; do sleep 0.1; done
}

release_table() { docker rm -f host-holds-binfmt > /dev/null 2>&1; }

# Prints containers, networks and volumes of runs.
things() {
  docker ps -aq --filter label=org.nixos-image.run
  docker network ls -q --filter label=org.nixos-image
  # The volume of `docker compose up` is kept, like all of Compose's volumes.
  docker volume ls -q --filter name=nixos-image- | grep -E '^nixos-image-([0-9a-f]*_|work)' | grep -vx nixos-image-work-compose
}

# wait_gone: waits until a run has ended, half a minute at most
wait_gone() {
  tries=300
  until [ -z "$(things)" ] || [ "$tries" = 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
  done
}

# nothing_left: whether nothing of runs is left, and binfmt_misc equals `before`, which the test has read at its start
nothing_left() {
  left=$(things) now=$(table)
  [ -z "$left" ] && [ "$now" = "${before-}" ] && return
  { echo "left: $left"; docker ps -a; docker network ls; pgrep -af run.sh; echo "table before: ${before-}"; echo "table now: $now"; } >> "$work/err"
  return 1
}

no_partial_file() { [ -z "$(find "$work" -name '.nixos-image-*.part')" ]; }

# changed_run NAME SCRIPT: makes a copy NAME of run.sh in the checkout, with a caller/runs.sh that sed's SCRIPT has changed
changed_run() {
  sed "$2" "$project/caller/runs.sh" > "$work/runs.sh"
  sed "s|\"\$root/caller/runs.sh\"|\"$work/runs.sh\"|" "$project/run.sh" > "$project/$1"
  chmod +x "$project/$1"
}

finish() {
  release_table
  rm -rf "$work"
  printf '%s passed, %s failed\n' "$passed" "$failed"
  [ "$failed" = 0 ]
}
