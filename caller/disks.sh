# The disks of this computer, as Linux describes them in $sys and $proc: their list, and which of them must not be overwritten.
# shellcheck shell=sh

# read_disk NAME: sets $disk_bytes, $disk_number (major:minor), $disk_kind, $disk_model, and $disk_inside: 1 for a disk that is part
# of this computer, as far as the kernel knows
read_disk() {
  folder=$sys/class/block/$1
  disk_bytes=$(($(fact size) * 512)) disk_number=$(fact dev) disk_inside=1
  disk_model=$(printf '%s %s' "$(fact device/vendor)" "$(fact device/model)")
  case $disk_model in ' '* | 0x*) disk_model=${disk_model#* } ;; esac # a virtual disk's vendor is a number
  disk_model=${disk_model:-$(fact device/name)}
  disk_kind=$(readlink -f "$folder")
  case $disk_kind:$(fact device/type) in
    */usb[0-9]*) disk_kind=USB disk_inside= ;;
    */mmc_host/*:SD) disk_kind='SD card' disk_inside= ;;
    */mmc_host/*) disk_kind=eMMC ;;
    */nvme*) disk_kind=NVMe ;;
    */virtio*) disk_kind=virtual ;;
    */ata[0-9]*) disk_kind=SATA ;;
    */loop*) disk_kind='loop device' ;;
    *) disk_kind=disk ;;
  esac
  [ "$(fact removable)" != 1 ] || disk_inside=
}

# fact FILE: prints the first line of a file in $folder, without spaces around it
fact() {
  line=
  { read -r line || :; } < "$folder/$1"
  printf %s "$line" | plain
} 2> /dev/null

# disk_parts NAME: prints name, number and mapper name of the disk, its partitions, and the volumes on them (LVM, dm-crypt, RAID)
disk_parts() (
  folder=$sys/class/block/$1
  printf '%s %s %s\n' "$1" "$(fact dev)" "$(fact dm/name)"
  for below in "$folder/$1"* "$folder"/holders/*; do
    [ ! -e "$below" ] || disk_parts "${below##*/}"
  done
)

# uses NAME: prints how the disk is used, one use a line: `mount FOLDER`, `swap DEVICE`, or `volume NAME` for a volume on it. The
# kernel names the source of a mount by number, or, for btrfs, by its path only.
uses() {
  disk_parts "$1" | awk '
    file == 1 { number[$2] = path["/dev/" $1] = 1; if ($3) path["/dev/mapper/" $3] = 1; if ($1 ~ /^(dm-|md)/) volume[$3 ? $3 : $1] = 1 }
    file == 2 {
      for (i = 7; $i != "-" && i < NF; i++);
      if ($3 in number || $(i + 2) in path) { gsub(/\\040/, " ", $5); print "mount " $5 }
    }
    file == 3 && $1 in path { print "swap " $1 }
    END { for (name in volume) print "volume " name }
  ' file=1 - file=2 "$proc/self/mountinfo" file=3 "$proc/swaps" | plain
}

# is_system USES: whether the disk with these uses has the running system
is_system() {
  printf '%s\n' "$1" | grep -qxE 'swap .*|mount (/|/boot|/boot/.*|/efi|/nix|/nix/.*|/usr|/var|/home)'
}

# each_disk FUNCTION: calls FUNCTION NAME for each disk that has a medium and could be written to
each_disk() {
  for folder in "$sys"/block/*; do
    disk=${folder##*/}
    case $disk in loop* | ram* | zram* | dm-* | md* | sr* | fd* | nbd* | '*' | mmcblk*boot*) continue ;; esac
    [ "$(fact size)" = 0 ] || "$1" "$disk"
  done
}

# list_disks: prints the disks of this computer: device, size, kind, where it is, model, use
list_disks() {
  { echo 'DEVICE	SIZE	KIND	WHERE	MODEL	USED AS'; each_disk list_disk; } | awk -F "$tab" '
    { for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } }
    END { for (r = 1; r <= NR; r++) { line = ""; for (i = 1; i <= 6; i++) line = line sprintf("%-" width[i] + 2 "s", cell[r, i])
      sub(/ +$/, "", line); print line } }'
}

list_disk() {
  read_disk "$1"
  used=$(uses "$1")
  if is_system "$used"; then used='this system'; else used=$(printf '%s\n' "$used" | sed 's/^mount //' | joined); fi
  printf "%s$tab%s$tab%s$tab%s$tab%s$tab%s\n" "/dev/$1" "$(size_of "$disk_bytes")" "$disk_kind" \
    "$(if [ -n "$disk_inside" ]; then echo inside; else echo removable; fi)" "$disk_model" "$used"
}

# size_of BYTES: prints a size as it stands on cards
size_of() {
  awk -v bytes="$1" 'BEGIN { if (bytes < 1e9) printf "%.1f MB", bytes / 1e6; else printf "%.1f GB", bytes / 1e9 }'
}

# check_disk NAME DEVICE BYTES: ends run.sh if the disk must not be overwritten, or has less than BYTES; DEVICE is its path
check_disk() {
  read_disk "$1"
  used=$(uses "$1")
  case $1 in dm-* | md* | sr* | zram* | ram*) die 2 "$2 is not a disk or card" "$anew" ;; esac
  if [ -e "$sys/class/block/$1/partition" ]; then
    whole=$(readlink -f "$sys/class/block/$1/..")
    die 2 "$2 is a partition" "name the whole disk: /dev/${whole##*/}"
  fi
  [ "$disk_bytes" != 0 ] || die 2 "$2 has no card in it" "put the card in; $anew"
  ! is_system "$used" || die 2 "$2 is the disk of the running system" "$anew"
  case $used in
    *mount*)
      places=$(printf '%s\n' "$used" | sed -n 's/^mount //p')
      die 2 "$2 is mounted: $(printf '%s\n' "$places" | joined)" \
        "sudo umount $(printf '%s\n' "$places" | sed "s/'/'\\\\''/g; s/.*/'&'/" | joined)"
      ;;
    *volume*)
      place=$(printf '%s\n' "$used" | sed -n 's/^volume //p' | tail -n 1)
      die 2 "$2 has a volume that is open: $place" "close it (sudo dmsetup remove $place, or mdadm --stop for RAID)"
      ;;
  esac
  [ "$(cat "$sys/class/block/$1/ro")" = 0 ] || die 2 "$2 is read-only" "move the lock switch of the card or adapter"
  [ "$disk_bytes" -ge "$3" ] || die 2 "$2 is too small: it has $(size_of "$disk_bytes"), the image needs $(size_of "$3")" "use a larger one"
  [ -z "$disk_inside" ] || [ -n "$yes" ] \
    || die 2 "$2 ($disk_kind${disk_model:+, $disk_model}) is a disk inside this computer" "add --yes if you mean it; $anew"
}

# joined: puts the lines of stdin on one line
joined() { tr '\n' ' ' | sed 's/ $//'; }
