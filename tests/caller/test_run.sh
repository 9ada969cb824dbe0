#!/bin/sh
# Tests run.sh as a person calls it: messages, exit codes, paths, ownership, streams.
. "$(dirname -- "$0")/lib.sh"
hold_table
before=$(table)
check "the table that is compared holds an entry" test -n "$before"

expect "an unknown verb is named" 2 'did you mean demo' "$project/run.sh" demmo
expect "an unknown option is named" 2 'did you mean --system' "$project/run.sh" demo --sytem aarch64-linux
expect "an unknown system is refused" 2 "invalid choice: 'sparc'" "$project/run.sh" demo --system sparc
expect "a missing key is refused" 2 'does not exist' "$project/run.sh" demo --ssh-key "$work/none.pub"
chmod 711 "$work"
echo ssh-ed25519 > "$work/hidden.pub"
chmod 000 "$work/hidden.pub"
mkdir "$work/theirs"
chown 12345:12345 "$work/theirs"
expect "an unreadable key is refused" 2 'cannot be read' setpriv --reuid 12345 --regid 12345 \
  --groups "$(stat -c %g /var/run/docker.sock)" env HOME=/nonexistent "$project/run.sh" demo -o "$work/theirs" \
  --ssh-key "$work/hidden.pub"
echo nonsense > "$work/bad.pub"
expect "what is no key is refused" 2 'not a public key' "$project/run.sh" demo --ssh-key "$work/bad.pub"
expect "a folder is no key" 2 'not a file' "$project/run.sh" demo --ssh-key "$work"
expect "an output folder that cannot be is refused" 2 'cannot be written' "$project/run.sh" demo -o /proc/nowhere
expect "a daemon that does not run is named" 3 'not running' env DOCKER_HOST=unix:///nonexistent.sock "$project/run.sh" demo
# Change the checkout's checksum, so that an image must be built.
mkdir "$work/changed"
(cd "$project" && git ls-files -z | xargs -0 tar -cf -) | tar -xf - -C "$work/changed"
echo >> "$work/changed/orchestrator/__main__.py"
expect "a password that would stay in an image is refused" 2 'a password would stay' \
  env PIP_INDEX_URL=https://me:secret@example.org/simple "$work/changed/run.sh" demo
python3 -c 'import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
time.sleep(60)' "$work/hung.sock" &
hung=$!
until [ -S "$work/hung.sock" ]; do sleep 0.1; done
sleep 0.5 # the socket listens a moment later
expect "one that hangs is named" 3 'Docker does not answer' \
  env DOCKER_HOST="unix://$work/hung.sock" NIXOS_IMAGE_PATIENCE=2 "$project/run.sh" demo
kill "$hung"
mkdir "$work/bin"
for tool in sh env dirname cat pwd mktemp rm tr od stty cut tar head tail sed grep id find; do ln -s "$(command -v $tool)" "$work/bin/$tool"; done
expect "a missing docker is named" 3 'docker is not installed' env PATH="$work/bin" "$project/run.sh" demo
expect "a user who may not use Docker is told so" 3 'no permission to use Docker' \
  setpriv --reuid 12345 --regid 12345 --clear-groups env HOME=/nonexistent "$project/run.sh" demo
expect "formats are told" 0 '' "$project/run.sh" formats qcow-efi
check "with what they are" grep -q '^qemu-efi, qcow-efi .* \.qcow2 .*uefi' "$work/out"
expect "a format that does not exist gets the nearest" 2 'did you mean qcow-efi' "$project/run.sh" formats qcow-uefi
expect "a plan can be looked at" 0 '^container  registrar$' "$project/run.sh" demo --dry-run --emulation shared -o "$work"
check "and says nothing of a failure" sh -c "! grep -i fail '$work/err'"
expect "help needs no Docker" 0 '' env PATH="$work/bin" "$project/run.sh" help
check "and names the verbs" grep -q 'run.sh demo' "$work/out"
check "refusals start nothing" nothing_left

# Partial deliveries of dead runs: a recent one may belong to an invisible process.
mkdir "$work/parts" "$work/parts/.nixos-image-0badcafe-4194305.part" "$work/parts/.nixos-image-0badbeef-4194305.part"
touch -d '11 minutes ago' "$work/parts/.nixos-image-0badcafe-4194305.part"
expect "a run looks at its output folder" 5 'emulation native' "$project/run.sh" demo --emulation native -o "$work/parts"
check "and removes old parts only" test "$(ls -A "$work/parts")" = .nixos-image-0badbeef-4194305.part
rm -r "$work/parts"

mkdir "$work/small"
if mount -t tmpfs -o size=20m tmpfs "$work/small" 2> /dev/null; then
  expect "too little room for the image is said before the build" 4 'has (19|20) MiB free, the demo needs' \
    "$project/run.sh" demo -o "$work/small"
  umount "$work/small"
fi

# A work volume that is too small simulates a full disk of Docker's data.
changed_run run-small.sh 's/type=volume,source=nixos-image-work-.run,/&volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=100m,/'
expect "too little room in Docker's data is said before the build" 4 "Docker's data has (99|100) MiB free, the demo needs" \
  "$project/run-small.sh" demo -o "$work/never"
rm "$project/run-small.sh"
check "and nothing was started" nothing_left

# A store that fills up during the run; a container keeps the tmpfs volume mounted.
docker volume rm nixos-image-store > /dev/null
docker volume create --label org.nixos-image=true --opt type=tmpfs --opt device=tmpfs --opt o=size=60m nixos-image-store > /dev/null
holder=$(docker run -d --network none --volume nixos-image-store:/nix --entrypoint sleep nixos-image-builder 600)
expect "a store that fills up is told, with the way out" 4 "^error: the disk of Docker's data is full" \
  "$project/run.sh" demo --no-boot -o "$work/never"
check "and what would help" grep -q '^try: docker system df tells what uses it; ./run.sh clean --store' "$work/err"
docker rm -f "$holder" > /dev/null
docker volume rm nixos-image-store > /dev/null
check "and nothing is left of it" nothing_left

# The same with a store of which much becomes garbage while the run is at work: what it needs no more when the build begins.
docker volume create --label org.nixos-image=true --opt type=tmpfs --opt device=tmpfs --opt o=size=900m nixos-image-store > /dev/null
holder=$(docker run -d --network none --user builder --tmpfs /tmp:exec --volume nixos-image-store:/nix --entrypoint sleep nixos-image-builder 600)
# shellcheck disable=SC2016  # another shell's program
docker exec --env NIX_CONFIG='build-users-group =' "$holder" sh -c 'mkdir -p /nix/var/nix/gcroots && free=$(df --output=avail -m /nix | tail -n 1) \
  && head -c $((free - 60))M /dev/zero > /tmp/garbage && ln -s "$(nix-store --add /tmp/garbage)" /nix/var/nix/gcroots/needed && rm /tmp/garbage'
# shellcheck disable=SC2317  # called by expect
runs_full() {
  "$project/run.sh" demo --no-boot -o "$work/full" &
  run=$!
  until grep -q '^build: ' "$work/err"; do kill -0 $run || return; sleep 0.1; done
  docker exec "$holder" rm /nix/var/nix/gcroots/needed
  wait $run
}
expect "a store that fills up with garbage is collected, and the build goes on" 0 'the disk was full; the store.s garbage is collected' runs_full
docker rm -f "$holder" > /dev/null
docker volume rm nixos-image-store > /dev/null
check "and nothing is left of it, either" nothing_left

foreign=aarch64
[ "$(uname -m)" != aarch64 ] || foreign=x86_64

# Another user, in another folder, with spaces and quotes in every path.
odd="$work/it's a \"path\""
mkdir -p "$odd" "$odd/home/.ssh"
(cd "$project" && git ls-files -z | xargs -0 tar -cf - ) | tar -xf - -C "$odd"
ssh-keygen -q -t ed25519 -N '' -C tester -f "$odd/home/.ssh/id_test"
chown -R 12345:12345 "$odd"
chmod 711 "$work"
group=$(stat -c %g /var/run/docker.sock)
cd "$odd" || exit 1
expect "a user's run from a path with blanks" 0 'deliver' \
  setpriv --reuid 12345 --regid 12345 --groups "$group" env HOME="$odd/home" "$odd/run.sh" demo --no-boot -o "my images"
cd / || exit 1
image=$(cat "$work/out")
check "stdout is the image's path and nothing else" test "$image" = "$odd/my images/nixos-demo-raw-efi-$foreign-linux-1.img"
check "the image is the caller's" test "$(stat -c %u:%g "$image")" = 12345:12345
check "the image is sparse" test "$(($(stat -c %b "$image") * 512 * 4))" -lt "$(($(stat -c %s "$image") * 3))"
check "result.json has the image's sum" grep -q "$(sha256sum < "$image" | cut -d ' ' -f 1)" "$odd/my images/result.json"
check "the caller's key is in the image" grep -aq "$(cut -d ' ' -f 2 "$odd/home/.ssh/id_test.pub")" "$image"
first=$(sha256sum < "$image")
expect "a second build" 0 'deliver' \
  setpriv --reuid 12345 --regid 12345 --groups "$group" env HOME="$odd/home" "$odd/run.sh" demo --no-boot -o "$odd/again" --log-format json
check "JSON events are JSON" sh -c "grep -v '^[^{]' '$work/err' | python3 -c 'import json, sys; [json.loads(line) for line in sys.stdin]'"
check "two builds are the same bits" test "$first" = "$(sha256sum < "$(cat "$work/out")")"
runs=$(grep -oh '"invocationId": "[0-9a-f]*"' "$odd/my images/"*.provenance.json "$odd/again/"*.provenance.json | cut -d '"' -f 4)
check "two runs have names of their own" test "$(echo "$runs" | sort -u | grep -cx '[0-9a-f]\{12\}')" = 2
check "that begin with their engine's digits" test "$(echo "$runs" | cut -c 1-4 | sort -u)" = \
  "$(docker volume inspect --format '{{index .Labels "org.nixos-image.engine"}}' nixos-image-store)"
expect "a large disk" 0 'deliver' "$project/run.sh" demo --no-boot --disk-size 2G -o "$work/large"
image=$(cat "$work/out")
check "has the size that was asked for" test "$(stat -c %s "$image")" = 2147483648
check "and costs only its data" test "$(stat -c %b "$image")" -lt 800000
expect "a disk that is too small is refused with both numbers" 7 'too small: the partitions need [0-9]+ MiB .--disk-size' \
  "$project/run.sh" demo --no-boot --disk-size 64 -o "$work/large"
image=$odd/again/${image##*/}
expect "the image boots" 0 "uname -m: $foreign" "$project/run.sh" boot --test "$image"

# The caller's SSH key opens only the user's account.
cat > "$work/login.py" << 'EOF'
import pathlib, shutil, sys, time
from orchestrator.agents.boot import __main__ as boot, qemu
disk, key = pathlib.Path("/tmp/disk.img"), pathlib.Path("/tmp/key")
shutil.copyfile(sys.argv[1], disk)
shutil.copyfile("/in/home/.ssh/id_test", key)
key.chmod(0o600)
serial = pathlib.Path("/tmp/serial.log")
serial.touch()
deadline = time.monotonic() + 120
with boot.Machine(qemu.command(sys.argv[2], "uefi", qemu.Disk(disk), "tcg", f"file:{serial}"), serial) as machine:
    machine.wait_for("nixos-image demo: ready", deadline)
    said = boot.log_in(machine, key, deadline, "nixos", ("id", "-un", "&&", "hostname"))
    print("login:", *said.split(), file=sys.stderr)
    try:
        boot.log_in(machine, key, time.monotonic() + 3)
    except boot.AgentError as error:
        print("root:", error, file=sys.stderr)
EOF
# A guest without packages of its own has no image of its own.
image_of_boot=nixos-image-boot-$foreign
docker image inspect "$image_of_boot" > /dev/null 2>&1 || image_of_boot=nixos-image-orchestrator
expect "the caller's key opens the user's account" 0 '^login: nixos nixos-demo$' \
  docker run --rm -i --network none --user 0 --volume "$odd:/in:ro" --volume "$work/login.py:/login.py:ro" \
  --entrypoint python3 "$image_of_boot" /login.py "/in/my images/${image##*/}" "$foreign-linux"
check "and not root's" grep -q '^root: .*Permission denied' "$work/err"

# Boot on a terminal, and quit with QEMU's key.
mkfifo "$work/keys"
cp --sparse=always "$image" "$work/plain.img"
script -qfec "'$project/run.sh' boot '$work/plain.img'" "$work/typescript" < "$work/keys" > /dev/null 2>&1 &
terminal=$!
exec 4> "$work/keys"
tries=900
until grep -aq 'nixos-image demo: ready' "$work/typescript" 2> /dev/null || [ "$tries" = 0 ]; do
  tries=$((tries - 1))
  sleep 0.1
done
"$project/run.sh" logs -f > /dev/null 2>&1 &
follower=$!
sleep 3
"$project/run.sh" ps > "$work/ps" 2>&1
check "ps shows the run that lives, beside an orchestrator that only looks" grep -q 'boot-1' "$work/ps"
printf '\001x' >&4
wait "$terminal"
check "boot on a terminal ends with Ctrl-A X" test "$?" = 0
wait "$follower"
check "and logs -f ends with it" test "$?" = 0
check "and has shown the console" grep -aq 'nixos-image demo: ready' "$work/typescript"
exec 4>&-

# Closed terminal: under bash only run.sh gets SIGHUP, under other shells all of its processes do; some parents ignore it.
for way in 'bash default' 'sh default' 'sh ignore'; do
  : > "$work/typescript"
  SHELL=/bin/${way% *} env "--${way#* }-signal=HUP" script -qfec "'$project/run.sh' boot '$work/plain.img'" "$work/typescript" \
    < "$work/keys" > /dev/null 2>&1 &
  terminal=$!
  exec 4> "$work/keys"
  tries=900
  until grep -aq 'Quit with Ctrl-A X' "$work/typescript" || [ "$tries" = 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
  done
  check "a machine runs on a terminal" sh -c "docker ps --format '{{.Names}}' | grep -q 'nixos-image-.*-boot-1'"
  kill -9 "$terminal"
  wait_gone
  check "and ends with it (shell, SIGHUP: $way)" nothing_left
  exec 4>&-
done

expect "docker compose up does the same by itself" 0 '' "$project/run.sh" up
check "and says where the image is" grep -q 'copy out with: docker compose cp' "$work/out"
"$project/run.sh" down > /dev/null 2>&1
hold_table # `down` has removed the container that keeps binfmt_misc mounted: it was made from our image

tiny=$work/tiny
mkdir "$tiny"
if mount -t tmpfs -o size=200m tmpfs "$tiny" 2> /dev/null; then
  (sleep 2; dd if=/dev/zero of="$tiny/filler" bs=1M count=160 2> /dev/null) &
  expect "a disk that fills meanwhile is an error, not a success" 8 'could not be written' "$project/run.sh" demo --no-boot -o "$tiny"
  check "and leaves no partial file" test "$(ls -A "$tiny")" = filler
  umount "$tiny"
fi
check "nothing is left" nothing_left
check "no partial file is left" no_partial_file
finish
