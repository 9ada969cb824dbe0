#!/bin/sh
# Tests that a fleet goes on after a kill: what was delivered is whole and stays, the same command makes the rest, with the same bits.
. "$(dirname -- "$0")/lib.sh"
hold_table
before=$(table)
devices=5
echo host,wifi_ssid,wifi_password > "$work/devices.csv"
for number in $(seq $devices); do echo "sensor-$number,attic,correct horse $number"; done >> "$work/devices.csv"
openssl rand -hex 32 > "$work/seed"

# A function in the background is a shell of its own, which would get the signal in run.sh's place: exec.
# shellcheck disable=SC2317  # called by kill_at
fleet_alone() { exec "$project/run.sh" demo --stamp "$work/devices.csv" --identity-seed "$work/seed" --no-boot -o "$work/out-of-it"; }
fleet() { (fleet_alone); }
whole() { find "$work/out-of-it" -name '*.img.sha256' | wc -l; }
digests() { (cd "$work/out-of-it" && sha256sum ./*.img | sort -k 2); }
verified() { (cd "$work/out-of-it" && for sums in ./*.sha256; do [ ! -e "$sums" ] || sha256sum -c --quiet "$sums" || exit; done) >> "$work/err" 2>&1; }

# kill_at COUNT COMMAND...: starts a fleet in an empty folder and runs the command when COUNT images are there; sets $code
kill_at() {
  count=$1
  shift
  rm -rf "$work/out-of-it"
  mkdir "$work/out-of-it"
  : > "$work/err"
  fleet_alone > "$work/out" 2> "$work/err" < /dev/null &
  maker=$!
  until [ "$(whole)" -ge "$count" ] && { [ "$count" != 0 ] || grep -q '^assemble: assembling' "$work/err"; }; do
    kill -0 $maker 2> /dev/null || break
    sleep 0.05
  done
  "$@"
  wait $maker
  code=$?
}

# killed NAME COUNT CODE COMMAND...: the fleet ends with CODE after the command; then it goes on
killed() {
  name=$1 least=$2 want=$3
  shift 3
  kill_at "$least" "$@"
  check "$name: exit code $want, not $code" test "$code" = "$want"
  [ "$want" = 137 ] || check "$name: nothing is left" nothing_left
  check "$name: all that is there is whole" verified
  there=$(whole)
  check "$name: $there images are there" test "$there" -ge "$least" -a "$there" -lt $devices
  check "$name: no list says more" test ! -e "$work/out-of-it/result.json"
  fleet > "$work/out" 2> "$work/err" < /dev/null
  check "$name: the same command makes the rest" test $? = 0
  # What a killed run.sh leaves behind may deliver one more after the count.
  check "$name: it keeps $there" test "$(grep -c ': is whole, and made from the same: it stays$' "$work/err")" -ge "$there"
  check "$name: and tells all paths" test "$(wc -l < "$work/out")" = $devices
  check "$name: the bits are those of a run that nobody has killed" test "$(digests)" = "$right"
  check "$name: and so is the list" test "$(grep -c '"made": "[0-9a-f]' "$work/out-of-it/result.json")" = $devices
}

container() { docker ps --format '{{.Names}}' | grep -E "$1" | head -n 1; }
# shellcheck disable=SC2317  # called by kill_at
orchestrator() { docker kill -s KILL "$(container '^nixos-image-[0-9a-f]+$')" > /dev/null; }
# shellcheck disable=SC2317
builder() { docker kill -s KILL "$(container 'builder-1$')" > /dev/null; }
# shellcheck disable=SC2317
signal() { kill -s "$1" $maker; }

mkdir "$work/out-of-it"
expect "a fleet is made" 0 '' fleet
right=$(digests)
killed "the orchestrator is killed before the first image" 0 137 orchestrator
killed "the orchestrator is killed after two" 2 137 orchestrator
killed "the builder is killed" 1 6 builder
killed "run.sh gets SIGTERM" 2 143 signal TERM
killed "run.sh is killed" 2 137 signal KILL
wait_gone
check "nothing of all that is left" nothing_left
finish
