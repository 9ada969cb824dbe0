#!/bin/sh
# Load test: runs the demo RUNS times (default 100) in each named mode (default: private, shared), and checks that nothing grows
# and that runs do not become slower. Prints a line for every tenth run, then three ratios: run 100 to run 2; the last ten runs to
# ten runs from run 2 on (medians); ten bare `docker run` after all runs to ten before, which shows changes of the machine itself.
# The ratios of each mode go to benchmarks/results/load.csv. Exits with 1 if anything has grown.
set -eu
cd "$(dirname "$0")/.."
runs=${RUNS:-100}
work=$(mktemp -d)
holder=
trap 'rm -rf "$work"; [ -z "$holder" ] || docker rm -f "$holder" > /dev/null' EXIT
. "$(dirname -- "$0")/table.sh"

# left: prints the numbers that must not grow: binfmt_misc entries, containers, networks, volumes, the daemon's file descriptors,
# staging folders, KiB of the store's files (without folders, which never shrink).
left() {
  in_table --rm '
files = subprocess.run(["find", "/nix/store", "!", "-type", "d", "-printf", "%k "], capture_output=True, text=True).stdout
print(len(binfmt.entries()), len(list(pathlib.Path("/nix/var/nix/builds").iterdir())), sum(map(int, files.split())))'
  docker ps -aq | wc -l
  docker network ls -q | wc -l
  docker volume ls -q | wc -l
  if [ -r /var/run/docker.pid ]; then find "/proc/$(cat /var/run/docker.pid)/fd" -mindepth 1 | wc -l; else echo -; fi
}

seconds() { awk '{ print $1 }' /proc/uptime; }

# timed COMMAND...: runs the command and prints its seconds
timed() {
  began=$(seconds)
  "$@" || return
  echo "$(seconds) $began" | awk '{ print $1 - $2 }' >&3
}

# bare FILE: writes to $work/FILE the seconds of ten bare containers, the baseline of this machine
bare() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    timed docker run --rm --network none --entrypoint true nixos-image-qemu-setup 3>> "$work/$1" || return
  done
}

demo() { ./run.sh demo --no-boot --emulation "$1" -o "$work" > /dev/null 2> "$work/err" || { cat "$work/err"; return 1; }; }

median() { sort -n | awk '{ all[NR] = $1 } END { print (all[int((NR + 1) / 2)] + all[int(NR / 2) + 1]) / 2 }'; }

# ratio SECONDS SECONDS: prints the first divided by the second
ratio() { echo "$1 $2" | awk '{ printf "%.2f", $1 / $2 }'; }

# grown BEFORE AFTER: prints which numbers of `left` have grown. A few more descriptors of the daemon do not count.
grown() {
  echo "$1$2" | awk '{
    split("entries,folders of runs,KiB of the store,containers,networks,volumes,descriptors", names, ",")
    for (i = 1; i <= 7; i++) if ($(i + 7) - $i > (i == 7 ? 10 : 0)) words = words (words ? "; " : "") names[i] " +" $(i + 7) - $i
    print words ? words : "nothing"
  }'
}

# record MODE FIELD...: replaces the row of MODE in results/load.csv
record() {
  row=$(IFS=,; echo "$*")
  { grep -v "^$1," benchmarks/results/load.csv; echo "$row"; } > "$work/load.csv"
  cat "$work/load.csv" > benchmarks/results/load.csv
  head -n 1 benchmarks/results/load.csv
  echo "$row"
}

code=0
[ $# != 0 ] || set -- private shared
for mode; do
  [ -z "$holder" ] || docker rm -f "$holder" > /dev/null
  demo "$mode" # the first run makes the images and fills the store
  # Keep binfmt_misc mounted: otherwise leftovers would vanish with each run's last mount (Linux >= 6.7).
  holder=$(in_table -d 'time.sleep(36000)')
  before=$(left | tr '\n' ' ')
  echo "$mode: entries, folders of runs, KiB of the store, containers, networks, volumes, descriptors: $before"
  rm -f "$work/before" "$work/after" "$work/runs"
  bare before
  for number in $(seq "$runs"); do
    timed demo "$mode" 3>> "$work/runs"
    [ $((number % 10)) != 0 ] || echo "$mode $number: $(tail -n 1 "$work/runs") s; $(left | tr '\n' ' ')"
  done
  after=$(left | tr '\n' ' ')
  bare after
  more=$(grown "$before" "$after")
  [ "$more" = nothing ] || { echo "$mode: has grown: $more ($before -> $after)"; code=1; }
  record "$mode" "$runs" "$(ratio "$(tail -n 1 "$work/runs")" "$(sed -n 2p "$work/runs")")" \
    "$(ratio "$(tail -n 10 "$work/runs" | median)" "$(sed -n 2,11p "$work/runs" | median)")" \
    "$(ratio "$(median < "$work/after")" "$(median < "$work/before")")" "$more"
done
exit $code
