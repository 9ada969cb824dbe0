# Writes an image to a disk with programs of this computer, and reads it back (caller/flash.sh).
# shellcheck shell=sh

# find_sudo: sets $sudo to what $disk_path needs to be written to: `sudo`, or nothing
find_sudo() {
  sudo=
  [ -w "$disk_path" ] || sudo=sudo
}

# write_with_dd: writes the image to $disk_path and compares. The programs stay in the foreground: sudo may ask for a password.
write_with_dd() {
  for program in ${packer:+"$packer"} ${sudo:+"$sudo"} dd; do
    command -v "$program" > /dev/null || die 4 "$program is not installed" "install it, or write by hand (docs/flash.md)"
  done
  options=conv=notrunc,fsync gnu= larger="use a larger disk; one that says another size is a forgery"
  case $(dd --version 2> /dev/null) in
    *coreutils*) options="$options iflag=fullblock" gnu=1; [ "$columns" = 0 ] || options="$options status=progress" ;;
  esac
  [ -z "$map" ] || say "dd writes the whole image: it cannot use the block map"
  mkfifo "$state/sums" "$state/sizes" || die 2 "no pipe can be made in $state" "set TMPDIR to another folder"
  put_sum < "$state/sums" > "$state/sum" &
  wc -c < "$state/sizes" > "$state/size" &
  count_time "writing" &
  ticker=$!
  # A file has no end of its own: of an image without one it would take all space. One byte more than the disk tells such an image.
  # shellcheck disable=SC2086  # words
  { unpack_image || : > "$state/broken"; } 2> "$state/log" | head -c $((disk_bytes + 1)) | tee "$state/sums" "$state/sizes" 2> /dev/null \
    | { head -c "$disk_bytes"; cat > /dev/null; } | { LC_ALL=C $sudo dd of="$disk_path" bs=4194304 $options 2>&1; echo $? > "$state/code"; } | tee "$state/dd" >&2
  end_family $ticker
  wait
  code=$(cat "$state/code")
  end_if_stopped "the writing: the content of $disk_path is incomplete"
  written=$(($(cat "$state/size")))
  [ "$code" = 0 ] || dd_failed
  [ "$written" -le "$disk_bytes" ] || die 17 "$disk_path ends before the image" "$larger"
  [ ! -e "$state/broken" ] || die 14 "the image cannot be unpacked: $(last_line "$state/log")" \
    "copy or download it again; the content of $disk_path is incomplete"
  [ "$image_bytes" = 0 ] || [ "$written" = "$image_bytes" ] \
    || die 14 "the image is incomplete: it has $written of $image_bytes bytes" "copy or download it again"
  if [ -n "$no_verify" ]; then say "$(size_of $written) written, not read back: $disk_path can be removed"; return; fi
  read_back
  say "$(size_of $written) written and read back: $disk_path can be removed"
}

# A file can ask xz for any amount of memory.
unpack_image() { if [ -n "$packer" ]; then XZ_OPT=--memlimit-decompress=1GiB "$packer" -dc < "$image"; else cat "$image"; fi; }

# dd_failed: ends run.sh with what dd has said
dd_failed() {
  reason=$(last_line "$state/dd")
  case $reason in
    *"No space left"*) die 17 "$disk_path ends before the image" "$larger" ;;
  esac
  [ -e "$disk_path" ] || die 17 "$disk_path was pulled out" "put it in again and repeat the command; its content is incomplete"
  die 17 "$disk_path could not be written: $reason" "use another card or card reader"
}

# read_back: ends run.sh if $disk_path does not have what was written; reads past the page cache where dd can
read_back() {
  count_time "reading back" &
  ticker=$!
  direct=
  [ -z "$gnu" ] || ! $sudo dd if="$disk_path" of=/dev/null bs=4096 count=1 iflag=direct 2> /dev/null || direct=iflag=direct
  [ -n "$direct" ] || say "the page cache cannot be avoided here: to be sure, take the disk out and in, and compare by hand"
  # shellcheck disable=SC2086  # words
  { $sudo dd if="$disk_path" bs=4194304 count=$(((written + 4194303) / 4194304)) $direct 2> "$state/dd" || : > "$state/broken"; } \
    | { head -c "$written"; cat > /dev/null; } | put_sum > "$state/back"
  end_family $ticker
  end_if_stopped "the reading back"
  [ ! -e "$state/broken" ] || is_same || die 17 "$disk_path could not be read back: $(last_line "$state/dd")" "use another card or card reader"
  is_same || die 17 "$disk_path does not hold what was written" "use another card or card reader; one that says too large a size is a forgery"
}

# is_same: whether the sums of what was written and of what was read back are there, and the same
is_same() { is_sum "$(cat "$state/sum")" && [ "$(cat "$state/back")" = "$(cat "$state/sum")" ]; }

# count_time WHAT: says WHAT every five seconds, unless a terminal shows dd's progress; must run in a subshell
count_time() {
  say "$1"
  [ -z "$gnu" ] || [ "$columns" = 0 ] || return
  seconds=0
  while sleep 5 > /dev/null 2>&1; do seconds=$((seconds + 5)); say "$1 ($seconds s)"; done
}

last_line() { tr '\r' '\n' < "$1" | tail -n 1 | plain; }
