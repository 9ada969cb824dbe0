#!/bin/sh
# Tests an engine that stops answering at any call of run.sh, or leaves one call open: exit code 3 in time, or a signal's, and no
# process is left.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"

# Fake docker: from its n-th call on (n is in `silent`) it does not answer and ignores SIGTERM. Where `only` is, it answers the calls
# after that one, and says that no container runs. `images` selects which images exist; it makes missing ones.
mv "$work/bin/docker" "$work/bin/answers"
cat > "$work/bin/docker" << 'EOF'
#!/bin/sh
here=$(dirname -- "$(dirname -- "$0")")
echo "$*" >> "$here/calls"
made=$(wc -l < "$here/calls") silent=$(cat "$here/silent")
[ "$made" -lt "$silent" ] || { [ -e "$here/only" ] && [ "$made" -gt "$silent" ]; } || { trap '' TERM; exec sleep "$(cat "$here/bin/nap")"; }
case "$(cat "$here/images"):$*" in
  none:*'image inspect nixos-image-'* | none:*'image inspect debian'*) [ -e "$here/pulled" ]; exit ;;
  none:pull*) touch "$here/pulled"; exit ;;
  none:build*)
    while [ "$1" != --iidfile ]; do shift; done
    echo "sha256:$(printf %064d 3)" > "$2"
    cat > /dev/null
    exit
    ;;
  *'container inspect '*Running*) if [ -e "$here/only" ]; then echo false; else echo true; fi; exit ;;
  none:run*compileall*) cat > /dev/null; exit ;;
  none:commit*) echo "sha256:$(printf %064d 4)"; exit ;;
  *' orchestrator boot'*) touch "$here/booted" ;;
  *' orchestrator demo'*) cat > /dev/null ;;
esac
exec "$here/bin/answers" "$@"
EOF
chmod +x "$work/bin/docker"
echo "6543.$$" > "$work/bin/nap" # seconds that the fake docker sleeps: by this unusual number its processes are found
echo end > "$work/.complete"
tar -cf "$work/stream" -C "$work" .complete
echo key > "$work/key"
mkdir "$work/runs"

# prepared CASE N: sets $here to a new folder for one call of run.sh. CASE (streams, terminal, images, down) is what the call
# does; the fake docker is silent from its N-th call on.
prepared() {
  here=$work/runs/$1.$2
  rm -rf "$here"
  mkdir -p "$here/images.out/.nixos-image-0badcafe-4194305.part"
  touch -d '11 minutes ago' "$here/images.out/.nixos-image-0badcafe-4194305.part"
  cp -R "$work/bin" "$work/stream" "$here"
  cp "$work/source" "$here/source"
  echo "$2" > "$here/silent"
  echo all > "$here/images"
  printf '%s\n' 0123abc > "$here/listed"
  : > "$here/orders"
  : > "$here/calls"
  case $1 in
    streams) printf 'out_dir\t--out\t%s\nsend\t--ssh-key\t%s\n' "$here/images.out" "$work/key" > "$here/orders" ;;
    terminal) printf 'terminal\nsend\tboot\t%s\n' "$work/key" > "$here/orders" ;;
    images)
      echo none > "$here/images"
      echo other > "$here/source"
      ;;
    down) echo terminal > "$here/orders" ;;
  esac
}

# call CASE PATIENCE: calls run.sh with the fake docker in $here; PATIENCE is the limit in seconds for Docker's answers
call() {
  case $1 in
    streams) set -- "$2" demo --ssh-key "$work/key" -o "$here/images.out" ;;
    terminal) set -- "$2" boot "$work/key" ;;
    images) set -- "$2" doctor ;;
    down) set -- "$2" down -v --rmi all ;;
  esac
  wait_for=$1
  shift
  NIXOS_IMAGE_PATIENCE=$wait_for SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$here/bin:$PATH" \
    exec ${NIXOS_IMAGE_TEST_SHELL:-} "$project/run.sh" "$@" > "$here/out" 2> "$here/err" < /dev/null
}

# calls CASE: prints the number of docker calls of a whole, successful run
calls() {
  prepared "$1" 999
  # The fake docker's lists do not change, even after `down`.
  (call "$1" 60) || grep -q 'error: not everything could be removed' "$here/err" || cat "$here/err" >> "$work/err"
  wc -l < "$here/calls"
}

# all_at CASE: calls run.sh in parallel with a docker that is silent from its call 1 on, from its call 2 on, ...
all_at() {
  : > "$work/err"
  number=$(calls "$1")
  check "$1: a run makes many calls" test "$number" -ge 8 -a ! -s "$work/err"
  pids=
  n=1
  while [ "$n" -le "$number" ]; do
    prepared "$1" "$n"
    (call "$1" 1) &
    pids="$pids $!"
    n=$((n + 1))
  done
  n=1
  for pid in $pids; do
    ended "$pid" 40
    got=$?
    cp "$work/runs/$1.$n/err" "$work/err"
    check "$1: silent at call $n of $number: exit code 3" test "$got" = 3
    check "and one line about it" test "$(grep '^error: ' "$work/err")" = "error: Docker does not answer"
    n=$((n + 1))
  done
  : > "$work/err"
  sleep 2
  check "$1: no process stays" nobody
}

# ended PID SECONDS: prints the process' exit code, or 124 if it runs longer
ended() {
  tries=$(($2 * 5))
  while kill -0 "$1" 2> /dev/null; do
    [ "$tries" -gt 0 ] || { kill -KILL "$1"; return 124; }
    tries=$((tries - 1))
    sleep 0.2
  done
  wait "$1"
}

nobody() {
  ps -A -o args= > "$work/processes"
  ! grep -E "^sleep 6543\\.$$|$work/runs" "$work/processes" >> "$work/err"
}

# terminated CASE N SECONDS: sends SIGTERM to run.sh during its N-th docker call, which is not answered for a minute
terminated() {
  prepared "$1" "$2"
  (call "$1" 60) &
  pid=$!
  tries=100
  until [ "$(wc -l < "$here/calls")" -ge "$2" ] || [ "$tries" = 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
  done
  sleep 0.3
  kill -TERM "$pid"
  ended "$pid" "$3"
  got=$?
  cp "$here/err" "$work/err"
  check "$1: SIGTERM at call $2, $(sed -n "$2{s/ .*//;p}" "$here/calls"): exit code 143 within $3 s" test "$got" = 143
}

for run in streams terminal images down; do
  all_at $run
done
number=$(calls streams)
n=1
while [ "$n" -le "$number" ]; do
  # run.sh asks the engine for running containers, for at most 10 seconds.
  if sed -n "${n}p" "$work/runs/streams.999/calls" | grep -q ^run; then seconds=16; else seconds=4; fi
  terminated streams "$n" "$seconds"
  n=$((n + 1))
done
# An engine may leave the client of a container waiting, and answer all else.
n=1
while [ "$n" -le "$number" ]; do
  if sed -n "${n}p" "$work/runs/streams.999/calls" | grep -q '^run'; then
    prepared streams "$n"
    touch "$here/only"
    (call streams 2) &
    ended $! 40
    got=$?
    cp "$here/err" "$work/err"
    check "streams: call $n of $number alone is left open: exit code 3" test "$got" = 3
    check "and one line about that" test "$(grep '^error: ' "$work/err")" = "error: Docker does not answer"
  fi
  n=$((n + 1))
done
sleep 2
: > "$work/err"
check "nothing stays of them" nobody

finish
