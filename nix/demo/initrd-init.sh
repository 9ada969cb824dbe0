#!/bin/sh
# First process: mounts the root file system that the kernel command line names, and starts its init.
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
# shellcheck disable=SC2046  # a list of words
modprobe -a $(cat /modules)

root="" init="" type=""
# shellcheck disable=SC2013  # words, not lines
for word in $(cat /proc/cmdline); do
  case $word in
    root=*) root=${word#root=} ;;
    init=*) init=${word#init=} ;;
    rootfstype=*) type=${word#rootfstype=} ;;
  esac
done

tries=100
until device=$(findfs "$root" 2>/dev/null); do
  tries=$((tries - 1))
  if [ $tries = 0 ]; then
    echo "initrd: no file system $root found: starting a shell"
    exec sh
  fi
  sleep 0.1
done
mount_root() {
  [ "$type" = erofs ] || { mount -t "$type" "$device" /sysroot; return; }
  # erofs is read-only: an overlay keeps changes in memory.
  mkdir /lower /upper
  mount -t erofs -o ro "$device" /lower && mount -t tmpfs -o mode=755 tmpfs /upper && mkdir /upper/files /upper/work \
    && mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /sysroot
}
mount_root || { echo "initrd: cannot mount $device: starting a shell"; exec sh; }
for folder in dev proc sys; do
  mkdir -p "/sysroot/$folder"
  mount -o move "/$folder" "/sysroot/$folder"
done
exec switch_root /sysroot "$init"
