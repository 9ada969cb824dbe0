#!/bin/sh
# Tests `flash` with a real engine and loop devices: what the container writes, and what it says of a disk that fails. Needs root.
. "$(dirname -- "$0")/lib.sh"
loops=
if ! command -v losetup > /dev/null || [ "$(id -u)" != 0 ]; then echo "loop devices need root and losetup"; exit 1; fi
# shellcheck disable=SC2154  # the loop sets it
trap 'for one in $loops; do losetup -d "$one"; done; umount "$work/full" 2> /dev/null; rm -rf "$work"' EXIT

# attach FILE BYTES: makes the sparse file a disk, and sets $loop to it
attach() {
  truncate -s "$2" "$1" && loop=$(losetup --find --show "$1") && loops="$loops $loop"
}
flash() { timeout 300 "$project/run.sh" flash "$@"; }
starts_with_zeros() { [ "$(head -c 512 "$1" | tr -d '\0' | wc -c)" = 0 ]; }

size=104858112
image=$work/pi.img
{ printf 'partition table'; openssl enc -aes-128-ctr -pass pass:x -nosalt -in /dev/zero 2> /dev/null; } | head -c $size > "$image"
(cd "$work" && sha256sum pi.img > pi.img.sha256)
attach "$work/disk" 120000512
disk=$loop

expect "an image is written" 0 "^104 MB written and read back: $disk can be removed" flash "$image" "$disk" --yes
check "as it is" cmp -n $size "$image" "$disk"
zstd -q1 "$image" -o "$image.zst"
dd if=/dev/zero of="$disk" bs=1M count=100 2> /dev/null
expect "a packed one, too" 0 'packed by zstd' flash "$image.zst" --yes "$disk"
check "unpacked" cmp -n $size "$image" "$disk"

# Whoever mounts in another mount namespace is not seen in this one's list, but by the kernel.
mkfs.ext4 -q "$disk"
mkdir "$work/mounted"
unshare --mount sh -c "mount '$disk' '$work/mounted' && touch '$work/ready' && sleep 60" &
holder=$!
tries=100
until [ -e "$work/ready" ] || [ $tries = 0 ]; do tries=$((tries - 1)); sleep 0.1; done
expect "a disk that is mounted elsewhere is refused by the kernel" 2 '^error: the disk is in use' flash "$image" "$disk" --yes
# shellcheck disable=SC2046  # numbers
kill $(ps -o pid= --ppid $holder) $holder 2> /dev/null
wait $holder 2> /dev/null
mount "$disk" "$work/mounted"
expect "one that is mounted here before anything starts" 2 "^error: $disk is mounted: $work/mounted" flash "$image" "$disk" --yes
umount "$work/mounted"

mkdir "$work/full"
mount -t tmpfs -o size=50m tmpfs "$work/full"
attach "$work/full/disk" 120000512
expect "a disk that cannot be written to everywhere" 17 '^error: (write error at byte [0-9]+ of|the disk ends at byte) ' \
  flash "$image" "$loop" --yes
check "has no partition table" starts_with_zeros "$loop"

: > "$work/err"
env --default-signal=INT "$project/run.sh" flash "$image" "$disk" --yes > /dev/null 2> "$work/err" &
job=$!
tries=300
until grep -q '^write: ' "$work/err" || [ $tries = 0 ]; do tries=$((tries - 1)); sleep 0.05; done
kill -INT $job
wait $job
check "Ctrl-C ends it" test $? = 130
check "and says what is on the disk" grep -q '^try: repeat the command: the content of the disk is incomplete' "$work/err"
check "and leaves no container" test -z "$(docker ps -a --no-trunc | grep -F "$disk")"
check "nor a partition table" starts_with_zeros "$disk"
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
