#!@shell@
# Starts network and sshd, then prints a line on the console that the boot check waits for.
export PATH=@busybox@/bin
mount -o remount,rw /
root_type=$(awk '$2 == "/" { type = $3 } END { print type }' /proc/mounts)

# Like NixOS at the first boot: grow the root partition and its file system to the disk's end.
device=$(findfs LABEL=nixos)
slot=$(readlink -f "/sys/class/block/${device##*/}")
if [ -e "$slot/partition" ] && [ "$root_type" = ext4 ]; then
  disk=/dev/$(basename "${slot%/*}")
  left=$(($(cat "$slot/../size") - $(cat "$slot/start") - $(cat "$slot/size")))
  if [ $left -gt 4096 ]; then
    # Move the backup GPT to the disk's new end; fails for an MBR, which has no backup.
    @fdisk@/usr/sbin/sfdisk -q --relocate gpt-bak-std "$disk" 2> /dev/null
    # fdisk, command e: it asks for the partition if there are several, then for its size; the default is the largest. fdisk
    # updates only the changed partition in the kernel: the table of a disk in use cannot be re-read as a whole.
    number=$(cat "$slot/partition")
    [ "$(find "${slot%/*}"/*/partition | wc -l)" -gt 1 ] || number=
    printf 'e\n%s\nw\n' "${number:+$number
}" | @fdisk@/usr/sbin/fdisk "$disk" > /dev/null
    @e2fsprogs@/usr/sbin/resize2fs "$device" > /dev/null 2>&1 && echo "the root file system has grown" > /dev/console
  fi
fi

mkdir -p /var/lib/dropbear
key=/var/lib/dropbear/ed25519
own=/etc/ssh/ssh_host_ed25519_key # a late value of this device
if [ -s $own ] && [ ! -s $key ]; then @dropbear@/usr/bin/dropbearconvert openssh dropbear $own $key > /dev/null 2>&1; fi
[ -s $key ] || @dropbear@/usr/bin/dropbearkey -t ed25519 -f $key > /dev/null &
ip link set lo up
for device in /sys/class/net/*; do
  [ "${device##*/}" = lo ] || udhcpc -b -S -t 10 -T 1 -i "${device##*/}" -s /etc/udhcpc/default.script
done
wait
@dropbear@/usr/sbin/dropbear -r $key -s
echo "nixos-image demo: ready" > /dev/console
