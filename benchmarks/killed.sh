#!/bin/sh
# Counts what killed runs leave on the disk. RUNS (default 30) of `demo --no-boot`, each killed (SIGKILL) at a random moment: run.sh
# with all of its processes, the orchestrator's container, or the builder's. Two whole runs come first: one makes the images and fills
# the store, the other tells how long a run takes, and has what the host can do remembered, in a volume that stays. One run and `clean` come last. Prints a line for each kill, then the counts before and after.
# Fails if they differ.
set -eu
cd "$(dirname "$0")/.."
runs=${RUNS:-30}
work=$(mktemp -d)
mkdir "$work/tmp"
holder=
trap 'rm -rf "$work"; [ -z "$holder" ] || docker rm -f "$holder" > /dev/null' EXIT
. "$(dirname -- "$0")/table.sh"

# left: prints the counts that must not grow. The store does: it keeps what a run has built, until `clean --store`.
left() {
  in_table --rm '
print("entries", len(binfmt.entries()))
print("folders beside the store", len(list(pathlib.Path("/nix/var/nix/builds").iterdir())))'
  echo "containers $(docker ps -aq | wc -l)"
  echo "networks $(docker network ls -q | wc -l)"
  echo "volumes $(docker volume ls -q | wc -l)"
  echo "images $(docker images -q | wc -l)"
  echo "files in the output folder $(find "$work/out" -mindepth 1 | wc -l)"
  echo "folders of run.sh's own $(find "$work/tmp" -mindepth 1 -maxdepth 1 | wc -l)"
}

# family PID: prints PID and all processes below it
family() {
  ps -A -o pid= -o ppid= | awk -v top="$1" '
    { parent[$1] = $2 }
    END { for (p in parent) { for (q = p; q in parent && q != top; q = parent[q]); if (q == top) print p } }'
}

# demo MODE: a run
demo() {
  TMPDIR=$work/tmp ./run.sh demo --no-boot -o "$work/out" --emulation "$1" > "$work/log" 2>&1 < /dev/null
}

# end PATTERN: kills the containers whose names match
end() { docker ps --format '{{.Names}}' | grep -xE "$1" | xargs -r docker kill > /dev/null 2>&1 || :; }

demo shared || { tail "$work/log"; exit 1; }
holder=$(in_table -d 'print("held"); time.sleep(86400)')
until docker logs "$holder" 2> /dev/null | grep -q held; do sleep 0.1; done
tests/forget-demo # then each run has something to build
began=$(date +%s)
demo private || { tail "$work/log"; exit 1; }
seconds=$(($(date +%s) - began))
TMPDIR=$work/tmp ./run.sh clean > "$work/log" 2>&1
rm -rf "$work/out" && mkdir "$work/out"
left > "$work/before"

number=1
while [ "$number" -le "$runs" ]; do
  random=$(od -An -N2 -tu2 /dev/urandom)
  case $((number % 2)) in 0) mode=private ;; *) mode=shared ;; esac
  case $((number % 3)) in 0) victim=run.sh ;; 1) victim=orchestrator ;; *) victim=builder ;; esac
  tests/forget-demo
  demo $mode &
  run=$!
  moment=$((random % seconds + 1))
  sleep "$moment"
  case $victim in
    run.sh) # shellcheck disable=SC2046  # numbers
      kill -KILL $(family $run) 2> /dev/null || : ;;
    orchestrator) end 'nixos-image-[0-9a-f]{12}' ;;
    builder) end '.*-builder-1' ;;
  esac
  code=0
  wait $run 2> /dev/null || code=$?
  echo "run $number, $mode: $victim killed after $moment s of $seconds: exit code $code"
  number=$((number + 1))
done

# The orchestrator of a killed run.sh goes on until nobody takes its image. Folders of run.sh's are only removed when they are old.
until [ -z "$(docker ps -q --filter label=org.nixos-image.run)" ]; do sleep 1; done
find "$work/out" "$work/tmp" -mindepth 1 -maxdepth 1 -type d -exec touch -d '2 days ago' {} +
demo shared || { tail "$work/log"; exit 1; }
TMPDIR=$work/tmp ./run.sh clean > "$work/log" 2>&1
find "$work/out" -mindepth 1 -type f -delete
left > "$work/after"
diff -y -W 100 "$work/before" "$work/after" && echo "the disk is as it was"
