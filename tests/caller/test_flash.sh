#!/bin/sh
# Tests `flash` on the caller's side: what is checked and said before a disk is written, what the container gets, and dd with its
# checks. A fake docker runs; disks are files, and loop devices where there are any.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"

# flashes WORD...: runs run.sh with the orders that the orchestrator gives for `flash WORD...`
flashes() {
  : > "$work/orders"
  rm -f "$work/started"
  set -- "$@"
  order flash flash "$1"
  case ${2:---} in --*) ;; *) order disk flash "$2" ;; esac
  for word; do case $word in --dry-run) ;; --*) order "$(echo "${word#--}" | tr - _)" ;; esac; done
  run_sh flash "$@"
}

nothing_written() { [ "$(tr -d '\356' < "$disk" | wc -c)" = 0 ] && [ ! -e "$work/started" ]; }
same() { cmp -n "$(wc -c < "$1")" "$1" "$disk" >> "$work/err" 2>&1; }

# new_disk BYTES: sets $disk to a file that is used as a disk
new_disk() {
  disk=$work/disk
  head -c "$1" /dev/zero | tr '\0' '\356' > "$disk"
}

image=$work/pi.img
awk 'BEGIN { for (i = 0; i < 300000; i++) print i }' > "$image"
size=$(wc -c < "$image")
sums() { (cd "$work" && sha256sum "$@" | sed 's| \./| |' > "$1.sha256"); }
sums pi.img
new_disk 4194304

# --- what is refused --------------------------------------------------------------------------------------------------------

expect "an image that is not there" 2 '^error: /none: no such image' flashes /none "$disk" --yes
: > "$work/empty.img"
expect "an empty image" 2 'empty.img is empty' flashes "$work/empty.img" "$disk" --yes
printf 'QFI\373 and more' > "$work/vm.qcow2"
expect "a virtual machine's disk" 2 'vm.qcow2 is a disk of a virtual machine' flashes "$work/vm.qcow2" "$disk" --yes
check "with the way out" grep -q '^try: build it with --disk-format raw' "$work/err"
expect "a device that is not there" 2 '^error: /dev/none: no such device' flashes "$image" /dev/none --yes
check "with the way out" grep -q '^try: ./run.sh flash IMAGE lists the disks' "$work/err"
expect "something else than a disk" 2 '^error: /dev/null is not a disk' flashes "$image" /dev/null --yes
head -c 1000 "$disk" > "$work/small"
expect "a disk that is too small, with both sizes" 2 "small is too small: it has 1000 bytes, the image $size" flashes "$image" "$work/small" --yes
mv "$work/small" "$work/a small one"
expect "with a command for the shell" 2 "^try: truncate -s $size '$work/a small one'" flashes "$image" "$work/a small one" --yes
expect "nobody is asked without a terminal" 2 'nobody can be asked' flashes "$image" "$disk"
check "and nothing was written" nothing_written
expect "without a disk the disks are listed, and that is no success" 2 '^DEVICE .*USED AS' flashes "$image"
expect "which the end of the list says" 2 'no disk was named: nothing was written' flashes "$image"

printf x | dd of="$image" bs=1 seek=1000 conv=notrunc 2> /dev/null
expect "a damaged image" 14 "pi.img does not match $image.sha256: it is damaged" flashes "$image" "$disk" --yes
check "before anything is written" nothing_written
sums pi.img

expect "a dry run says what would be written where" 0 "^disk:  $disk, 4.2 MB, a file" flashes "$image" "$disk" --dry-run
check "and how" grep -q '^by:    dd, because it is a file' "$work/err"
check "and writes nothing" nothing_written

# --- dd ---------------------------------------------------------------------------------------------------------------------

expect "a file is written" 0 'written and read back' flashes "$image" "$disk" --yes
check "with the image" same "$image"
check "and nothing else" test "$(tail -c +$((size + 1)) "$disk" | tr -d '\356' | wc -c)" = 0
for packer in gzip zstd xz; do
  command -v $packer > /dev/null || continue
  new_disk 4194304
  $packer -c "$image" > "$image.$packer"
  sums "pi.img.$packer"
  expect "an image packed by $packer is written" 0 "packed by $packer" flashes "$image.$packer" "$disk" --yes
  check "unpacked" same "$image"
  head -c $(($(wc -c < "$image.$packer") - 100)) "$image.$packer" > "$work/cut.$packer"
  expect "one that is cut off is not whole" 14 'the image cannot be unpacked' flashes "$work/cut.$packer" "$disk" --yes
done
printf '{\n  "virtual_size": %s\n}\n' $((size + 1)) > "$image.gzip.result.json"
expect "one of another size is not whole" 14 "is incomplete: it has $size of $((size + 1)) bytes" flashes "$image.gzip" "$disk" --yes
rm "$image.gzip.result.json"
head -c 3000000 /dev/zero | gzip > "$work/bomb.gz"
new_disk 1000000
expect "a file is no disk without an end" 17 'disk ends before the image' flashes "$work/bomb.gz" "$disk" --yes
check "and does not grow" test "$(wc -c < "$disk")" = 1000000
printf '{\n  "virtual_size": 1000000\n}\n' > "$work/bomb.gz.result.json"
expect "whatever the files beside the image say" 17 'disk ends before the image' flashes "$work/bomb.gz" "$disk" --yes
check "of its size" test "$(wc -c < "$disk")" = 1000000
head -c 1000001 /dev/zero | gzip > "$work/bomb.gz"
expect "a single byte more is one too many" 17 'disk ends before the image' flashes "$work/bomb.gz" "$disk" --yes
head -c 1000000 /dev/zero | gzip > "$work/bomb.gz"
expect "an image of the file's size is not" 0 'written and read back' flashes "$work/bomb.gz" "$disk" --yes
printf '{\n  "virtual_size": 99999999999999999999\n}\n' > "$work/bomb.gz.result.json"
expect "a size that is no number is none" 0 "^image: $work/bomb.gz, packed by gzip" flashes "$work/bomb.gz" "$disk" --dry-run
check "and nothing is said of it" test "$(grep -c number "$work/err")" = 0
rm "$work/bomb.gz.result.json"
# flashes_in_little ARGUMENTS...: as flashes, with 1 GiB of memory for each program
# shellcheck disable=SC3045  # dash, bash and busybox have it
flashes_in_little() (ulimit -v 1048576 && flashes "$@")
for suffix in sha256 result.json bmap; do
  ln -s "$work/disk" "$work/bomb.gz.$suffix"
  expect "a link in the place of the file .$suffix is not followed" 2 "^error: .*/bomb.gz.$suffix is a link, which no run makes" \
    flashes_in_little "$work/bomb.gz" "$disk" --dry-run
  rm "$work/bomb.gz.$suffix"
  truncate -s 3G "$work/bomb.gz.$suffix"
  expect "the file .$suffix of any size is not read" 0 "bomb.gz.$suffix is larger than any that a run writes" flashes_in_little "$work/bomb.gz" "$disk" --dry-run
  check "and takes no memory" sh -c "! grep -qi -e memory -e INT_MAX '$work/err'"
  rm "$work/bomb.gz.$suffix"
done
if mkfifo "$work/bomb.gz.result.json" "$work/bomb.gz.sha256" "$work/bomb.gz.bmap"; then
  expect "what is no file beside the image is not waited for" 0 'a damaged image would not be noticed' flashes "$work/bomb.gz" "$disk" --dry-run
fi
new_disk 4194304
odd=$work/odd\\tname.img
cp "$image" "$odd"
(cd "$work" && sha256sum ./odd* | sed 's|^\\||; s| \./| |; s|\\\\|\\|' > "$odd.sha256")
expect "a backslash in a name is one" 0 'nothing was written' flashes "$odd" "$disk" --dry-run
check "whose checksum is found" test "$(grep -c 'has no checksum' "$work/err")" = 0
new_disk 4194304
# fake_dd COMMAND: replaces dd by one that plays a broken disk; the real one is $dd
dd=$(command -v dd)
fake_dd() { printf '#!/bin/sh\ncase "$*" in *--version*) echo coreutils; exit ;; esac\n%s\n' "$1" > "$work/bin/dd"; chmod +x "$work/bin/dd"; }
new_disk 4194304
fake_dd "case \"\$*\" in *of=$disk*) echo 'dd: error writing: No space left on device' >&2; exit 1 ;; esac; exec $dd \"\$@\""
expect "a disk that ends before the image" 17 'disk ends before the image' flashes "$image" "$disk" --yes
fake_dd "case \"\$*\" in *of=$disk*) cat > /dev/null; echo 'dd: error writing: Input/output error' >&2; exit 1 ;; esac; exec $dd \"\$@\""
expect "a write error" 17 'disk could not be written: dd: error writing: Input/output error' flashes "$image" "$disk" --yes
fake_dd "case \"\$*\" in *of=$disk*) rm $disk; echo 'dd: error writing: No such device' >&2; exit 1 ;; esac; exec $dd \"\$@\""
expect "a disk that is pulled out" 17 'disk was pulled out' flashes "$image" "$disk" --yes
new_disk 4194304
fake_dd "case \"\$*\" in *if=$disk*) $dd \"\$@\" | tr 1 2; exit ;; esac; exec $dd \"\$@\""
expect "a disk that returns something else" 17 'disk does not hold what was written' flashes "$image" "$disk" --yes
expect "which nobody notices without reading back" 0 'written, not read back' flashes "$image" "$disk" --yes --no-verify
fake_dd "case \"\$*\" in *if=$disk*) echo 'dd: error reading: Input/output error' >&2; exit 1 ;; esac; exec $dd \"\$@\""
expect "a disk that cannot be read" 17 'could not be read back: dd: error reading' flashes "$image" "$disk" --yes
rm "$work/bin/dd"

# --- on a terminal ----------------------------------------------------------------------------------------------------------

# answers TEXT WORD...: runs run.sh on a terminal, where TEXT is typed
answers() {
  : > "$work/orders"
  order flash flash "$2"
  [ $# -lt 3 ] || order disk flash "$3"
  # The terminal must be there before anything is typed: script passes on what it has read.
  (sleep 3; printf %b "$1"; sleep 3) | PATH="$work/bin:$PATH" timeout 60 script -qec \
    "SSL_CERT_FILE= NIX_SSL_CERT_FILE= ${NIXOS_IMAGE_TEST_SHELL:-} '$project/run.sh' flash '$2' ${3:+"'$3'"}" /dev/null > "$work/err" 2>&1
}
new_disk 4194304
expect_answer() {
  name=$1 want=$2 pattern=$3
  shift 3
  answers "$@"
  got=$?
  if [ "$got" = "$want" ] && grep -q "$pattern" "$work/err"; then pass "$name"; else fail "$name: exit code $got, expected $want, and $pattern"; fi
}
expect_answer "who does not say yes keeps the disk" 2 'nothing was written' 'y\n' "$image" "$disk"
check "as it was" nothing_written
expect_answer "who names no disk from the list keeps all" 2 'no disk was named' '\n' "$image"
expect_answer "who names one, and says yes" 0 'written and read back' "$disk\nyes\n" "$image"
check "has the image there" same "$image"

# --- other systems ----------------------------------------------------------------------------------------------------------

# computer NAME: plays another system
computer() { printf '#!/bin/sh\necho "%s"\n' "$1" > "$work/bin/uname"; chmod +x "$work/bin/uname"; }
computer Darwin
cp "$image" "$work/it's.img"
expect "on macOS the commands for the card are printed" 0 'writes no disk on macOS' flashes "$work/it's.img" /dev/disk4
check "which a shell can read" is_script "$work/out"
check "with the raw device" grep -qxF "cat '$work/it'\\''s.img' | sudo dd of=/dev/rdisk4 ibs=64k obs=4m" "$work/out"
check "after the card is unmounted" grep -qx 'diskutil unmountDisk /dev/disk4' "$work/out"
echo '{}' > "$image.gzip.rpi-imager.json"
expect "a packed image" 0 'Raspberry Pi Imager' flashes "$image.gzip"
check "is unpacked by them" grep -qxF "gzip -dc '$image.gzip' | sudo dd of=/dev/rdiskN ibs=64k obs=4m" "$work/out"
check "and Imager is named with its list" grep -qxF "rpi-imager --repo '$image.gzip.rpi-imager.json'" "$work/out"
computer MINGW64_NT-10.0
expect "on Windows those of PowerShell" 0 'writes no disk on Windows' flashes "$work/it's.img"
check "with the image" grep -qF "OpenRead('$work/it''s.img')" "$work/out"
cp "$image" "$work/a’;b‘c‚d‛e.img"
expect "a name that ends PowerShell's quotes" 0 'writes no disk on Windows' flashes "$work/a’;b‘c‚d‛e.img"
check "does not end them" grep -qF "OpenRead('$work/a’’;b‘‘c‚‚d‛‛e.img')" "$work/out"
check "and the disk" grep -qF "'\\\\.\\PhysicalDriveN'" "$work/out"
computer Plan9
expect "elsewhere nothing is pretended" 0 'disks are not known here' flashes "$image" "$disk" --yes
rm "$work/bin/uname"

new_disk 4194304
cp "$image" "$work/bare.img"
# This program fails at what is as large as an image.
cat > "$work/bin/openssl" << 'EOF'
#!/bin/sh
shift 3
[ $# = 0 ] || exec sha256sum "$@"
cat > "$0.$$"
[ "$(wc -c < "$0.$$")" -gt 1000000 ] || sha256sum < "$0.$$"
rm "$0.$$"
EOF
chmod +x "$work/bin/openssl"
expect "sums that no program has made are not the same" 17 'does not hold what was written' flashes "$work/bare.img" "$disk" --yes
rm "$work/bin/openssl"

# --- the container ----------------------------------------------------------------------------------------------------------

loop=
if command -v losetup > /dev/null && [ "$(id -u)" = 0 ]; then
  new_disk 4194304
  loop=$(losetup --find --show "$disk" 2> /dev/null) || loop=
fi
if [ -n "$loop" ]; then
  trap 'losetup -d "$loop"' EXIT
  export DOCKER_HOST=unix:///nonexistent/docker.sock
  number=$(cat "/sys/class/block/${loop##*/}/dev")
  expect "a disk inside the computer is refused" 2 "$loop (.*) is a disk inside this computer" flashes "$image" "$loop"
  expect "with a local engine a container writes" 0 '^by:    a container that has only this disk' flashes "$image" "$loop" --yes
  check "it has the disk" grep -q -- "--device $loop:/dev/nixos-image-disk" "$work/started"
  check "and no socket, no network, no capability" grep -q -- '--network none --read-only --cap-drop ALL' "$work/started"
  check "and limits of memory and processes" grep -q -- '--pids-limit 64 --memory [0-9]*m ' "$work/started"
  check "nor anything else" sh -c "! grep -qE -- '--mount|--volume|docker.sock|--privileged' '$work/started'"
  { echo "0 $size 4194304 $number none"; cat "$image"; } > "$work/expected"
  check "it is sent the facts and the image" cmp "$work/expected" "$work/sent"
  echo map > "$image.bmap"
  sums pi.img pi.img.bmap
  expect "a block map beside the image is used" 0 "by the block map $image.bmap" flashes "$image" "$loop" --yes --no-verify
  { echo "4 $size 4194304 $number none"; echo map; cat "$image"; } > "$work/expected"
  check "it is sent, too" cmp "$work/expected" "$work/sent"
  check "with the option" grep -q 'flash --no-verify --' "$work/started"
  echo other > "$image.bmap"
  expect "one that was changed is not" 14 'pi.img.bmap does not match' flashes "$image" "$loop" --yes
  sums pi.img
  expect "a block map whose checksum is not there is not used" 0 'pi.img.bmap: the block map is not used' flashes "$image" "$loop" --yes --no-verify
  { echo "0 $size 4194304 $number none"; cat "$image"; } > "$work/expected"
  check "the whole image is written" cmp "$work/expected" "$work/sent"
  rm "$image.bmap"
  head -c 5000000 /dev/zero > "$work/large.img"
  expect "an image that is too large is refused with both sizes" 2 'has 4.2 MB, the image needs 5.0 MB' flashes "$work/large.img" "$loop" --yes
  ln -s "$loop" "$work/usb:1:0"
  expect "a link with colons is followed" 0 '' flashes "$image" "$work/usb:1:0" --yes
  check "to the disk" grep -q -- "--device $loop:/dev/nixos-image-disk" "$work/started"

  for code in 126 127; do
    echo $code > "$work/no-start"
    head -c 4194304 /dev/zero > "$loop"
    expect "where the engine's runtime cannot start the writer ($code)" 0 "the engine cannot give $loop to a container: dd" \
      flashes "$image" "$loop" --yes
    check "dd has written the image" cmp -n "$size" "$image" "$loop"
  done
  echo 125 > "$work/no-start"
  head -c 4194304 /dev/zero > "$loop"
  expect "where the engine itself fails, that is told" 3 'Docker could not start the writer' flashes "$image" "$loop" --yes
  check "and nothing is written" cmp -n 4194304 "$loop" /dev/zero
  rm "$work/no-start"

  DOCKER_HOST=ssh://elsewhere
  expect "with a remote engine dd writes" 0 '^by:    dd.*, because the engine is on another computer' flashes "$image" "$loop" --yes
  check "the image" cmp -n "$size" "$image" "$loop"
  check "and the container was not started" test ! -e "$work/started"
  truncate -s 1048576 "$disk"
  expect "what the disk loses while it is written is noticed" 17 "^error: $loop (could not be written|could not be read back|does not hold)" flashes "$image" "$loop" --yes
fi
finish
