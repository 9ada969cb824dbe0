#!/bin/bash
# The commands with which nixpkgs makes an SD card image: the tools of nixos/lib/make-ext4-fs.nix (`root`) and of
# nixos/modules/installer/sd-card/sd-image.nix (`card`), in their order and with their options, with compressImage, its default.
# assembly.py runs it in an arm64 tree under qemu-user, in an empty folder for each of the two builds.
#
# peers.sh root INPUTS KERNEL INITRD CORES    INPUTS has the lists store-paths and registration
# peers.sh card ROOT_FS FIRMWARE CORES
set -euo pipefail
export EXT2FS_NO_MTAB_OK=yes

root() {
  inputs=$1 kernel=$2 initrd=$3 cores=$4
  # The same steps as generic-extlinux-compatible's populateCmd.
  mkdir -p files/boot/nixos files/boot/extlinux
  cp "$kernel" "$initrd" files/boot/nixos/
  printf 'DEFAULT nixos-default\nTIMEOUT 50\nLABEL nixos-default\n  LINUX ../nixos/kernel\n  INITRD ../nixos/initrd\n' \
    > files/boot/extlinux/extlinux.conf

  mkdir -p rootImage/nix/store
  xargs -I % cp -a --reflink=auto % -t rootImage/nix/store/ < "$inputs/store-paths"
  cp -a --reflink=auto -t rootImage/ files/boot
  cp "$inputs/registration" rootImage/nix-path-registration

  inodes=$(find rootImage | wc -l)
  blocks=$(du -s -c -B 4096 --apparent-size rootImage | tail -1 | awk '{ print int($1 * 1.20) }')
  bytes=$((2 * 4096 * inodes + 4096 * blocks))
  mebibyte=$((1024 * 1024))
  truncate -s $(((bytes + mebibyte - 1) / mebibyte * mebibyte)) temp.img
  faketime -f '1970-01-01 00:00:01' fakeroot mkfs.ext4 -L NIXOS_SD -U 44444444-4444-4444-8888-888888888888 \
    -d rootImage temp.img
  fsck.ext4 -n -f temp.img
  resize2fs -M temp.img
  size=$(dumpe2fs -h temp.img | awk -F: '/Block count/{count=$2} /Block size/{size=$2}
    END{printf "%d", (count*size+16*2**20)/size}')
  resize2fs temp.img "$size"
  zstd "-T$cores" -v --no-progress ./temp.img -o ext4-fs.img.zst
}

card() {
  compressed=$1 firmware=$2 cores=$3 gap=8 firmware_size=30 img=sd-card.img
  zstd -d --no-progress "$compressed" -o root-fs.img
  root_blocks=$(du -B 512 --apparent-size root-fs.img | awk '{ print $1 }')
  firmware_blocks=$((firmware_size * 1024 * 1024 / 512))
  truncate -s $((root_blocks * 512 + firmware_blocks * 512 + gap * 1024 * 1024)) $img
  sfdisk --no-reread --no-tell-kernel $img << END
    label: dos
    label-id: 0x2178694e

    start=${gap}M, size=$firmware_blocks, type=b
    start=$((gap + firmware_size))M, type=83, bootable
END
  START='' SECTORS=''
  eval "$(partx $img -o START,SECTORS --nr 2 --pairs)"
  dd conv=notrunc if=root-fs.img of=$img seek="$START" count="$SECTORS"

  eval "$(partx $img -o START,SECTORS --nr 1 --pairs)"
  truncate -s $((SECTORS * 512)) firmware_part.img
  mkfs.vfat --invariant -i 0x2178694e -n FIRMWARE firmware_part.img
  mkdir firmware
  cp "$firmware" firmware/firmware.bin
  find firmware -exec touch --date=2000-01-01 {} +
  mcopy -pvm -i firmware_part.img firmware/firmware.bin ::/firmware.bin
  fsck.vfat -vn firmware_part.img
  dd conv=notrunc if=firmware_part.img of=$img seek="$START" count="$SECTORS"
  zstd "-T$cores" --rm $img
}

"$@"
