#!/bin/sh
# Builds the formats that no other script builds, from stand-in packages (make-tree), and looks into each file with programs that are
# not this project's. Nothing is booted. A format that this script has built is "built" in nix/formats.nix (`tried`).
#
#   NIXPKGS=FOLDER tests/nixos/test_formats.sh [disks|containers|kexec|scripts|machine|installers|cards|i686...]
. "$(dirname -- "$0")/lib.sh"
if [ -z "${NIXPKGS:-}" ] || [ "$(uname -m)" != x86_64 ]; then
  echo "skipped: takes a tree in NIXPKGS to make the stand-ins' of, and a PC, which has most of the formats"
  exit 0
fi
disks='amazon azure cloudstack digital-ocean google-compute hyperv kubevirt linode oci openstack proxmox qemu raw sd-x86_64
  vagrant-virtualbox virtualbox vmware'
containers='lxc proxmox-lxc'
kexec='kexec kexec-bundle'
scripts='vm vm-nogui'
machine='vm-bootloader'
installers='iso-installer install-iso-hyperv'
cards='sd-riscv64 sd-armv7l sd-aarch64-installer'
i686='raw raw-efi'
cases=${*:-disks containers kexec scripts machine installers cards i686}
programs qemu-img sfdisk debugfs zstd xorriso unsquashfs mdir
mkdir "$work/configuration"
cp "$here/stand-in.nix" "$work/configuration/stand-in.nix"
# Disable GRUB's picture, which would be fetched.
echo '{ imports = [ ./stand-in.nix ]; boot.loader.grub.splashImage = null; }' > "$work/configuration/configuration.nix"
# Without documentation, pictures and ZFS, which installers and kexec have and the stand-ins have not; compressed fast.
cat > "$work/configuration/installer.nix" << 'NIX'
{ lib, options, pkgs, ... }:
{
  imports = [ ./stand-in.nix ];
  documentation = { enable = lib.mkForce false; nixos.enable = lib.mkForce false; };
  boot.supportedFilesystems.zfs = lib.mkForce false;
  system = lib.optionalAttrs (options.system ? installer) { installer.channel.enable = false; };
  image.modules.kexec.netboot.squashfsCompression = "zstd -Xcompression-level 1";
  image.modules.iso-installer.isoImage = {
    squashfsCompression = "zstd -Xcompression-level 1";
    grubTheme = null;
    splashImage = pkgs.writeText "splash.png" "";
    efiSplashImage = pkgs.writeText "splash.png" "";
  };
}
NIX
foreign=
case $cases in *cards*) foreign='aarch64-linux armv7l-linux riscv64-linux' ;; esac
case $cases in *i686*) foreign="$foreign i686-linux" ;; esac
# shellcheck disable=SC2086  # words
stand_in_tree x86_64-linux $foreign

# of_system SYSTEM CONFIGURATION FORMAT...: builds images of these formats in one go, into $work/images
of_system() {
  system=$1 configuration=$2
  shift 2
  rm -rf "$work/images"
  # shellcheck disable=SC2046  # words
  expect "built: $*" 0 'deliver' run_stand_ins -c "$work/configuration/$configuration.nix" \
    --system "$system" -o "$work/images" --yes $(printf -- '-f %s ' "$@")
}

build() { of_system x86_64-linux configuration "$@"; }

# fact FORMAT NAME: a value of the format in the table of formats
fact() {
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]].get(sys.argv[3], ""))' "$project/nix/formats.json" "$1" "$2"
}

# file_of FORMAT: the image of the format. Its name begins with the host's, or with the configuration's where the network gives the host its name.
file_of() {
  rest="$1-$system-*.$(fact "$1" suffix)"
  find "$work/images" -maxdepth 1 \( -name "standin-$rest" -o -name "$configuration-$rest" \)
}

# of_table FILE EXPRESSION: evaluates a Python expression with the list `partitions` of sfdisk's table, by offset; empty without a table
of_table() {
  { sfdisk --json "$1" 2> /dev/null || echo '{"partitiontable": {}}'; } | python3 -c 'import json, sys
partitions = sorted(json.load(sys.stdin)["partitiontable"].get("partitions", []), key=lambda one: one["start"])
print(eval(sys.argv[1]))' "$2"
}

# root_of RAW: the file system of the last partition, or of the whole disk, as debugfs takes it
root_of() { echo "$1?offset=$((512 * $(of_table "$1" '([one["start"] for one in partitions] or [0])[-1]')))"; }

# looks_into NAME RAW: whether the disk has partitions, and the system on the last one; Linode's is a file system alone
looks_into() {
  case $1 in linode) wanted=0 ;; *) wanted=1 ;; esac
  check "$1: it has partitions, or needs none" test "$(of_table "$2" 'min(1, len(partitions))')" = "$wanted"
  debugfs -R 'ls -p /nix/store' "$(root_of "$2")" > "$work/list" 2> /dev/null
  check "$1: the system is on its root" grep -qE -- '-nixos-system-(standin|unnamed)-' "$work/list"
}

case $cases in *disks*)
  # shellcheck disable=SC2086  # words
  build $disks
  for format in $disks; do
    image=$(file_of "$format")
    check "$format: is delivered" test -s "$image" || continue
    disk=$work/disk raw=$work/raw kind=$(fact "$format" diskFormat)
    rm -f "$disk" "$raw"
    case $image in
      *.gz) gzip -dc "$image" > "$disk" ;;
      *.zst) zstd -qdc "$image" -o "$disk" ;;
      *.box)
        # The disk has the name that the machine's description gives it.
        tar -xOf "$image" box.ovf > "$work/box.ovf"
        named=$(python3 -c 'import sys, xml.etree.ElementTree as tree
print(*(value for one in tree.parse(sys.argv[1]).iter() for name, value in one.items() if name.endswith("}href")))' "$work/box.ovf")
        check "$format: has what Vagrant reads" test "$(tar -tf "$image" | LC_ALL=C sort | tr '\n' ' ')" = "Vagrantfile $named box.ovf metadata.json "
        tar -xOf "$image" "$named" > "$disk"
        kind=vmdk
        ;;
      *) ln "$image" "$disk" ;;
    esac
    check "$format: QEMU finds ${kind%-fixed} in it" test "$(qemu-img info --output=json "$disk" | python3 -c 'import json, sys
print(json.load(sys.stdin)["format"])')" = "$(case $kind in vpc-fixed) echo raw ;; *) echo "$kind" ;; esac)"
    if [ "$kind" = vpc-fixed ]; then check "$format: its last sector is a VHD's" sh -c "tail -c 512 '$disk' | grep -aq '^conectix'"; fi
    qemu-img convert -O raw "$disk" "$raw"
    looks_into "$format" "$raw"
  done
  ;;
esac

case $cases in *containers*)
  # shellcheck disable=SC2086  # words
  of_system x86_64-linux installer $containers
  for format in $containers; do
    archive=$(file_of "$format")
    tar -tJf "$archive" > "$work/list" 2> /dev/null
    check "$format: has the system" grep -qE -- '-nixos-system-(standin|unnamed)-.*/init$' "$work/list"
    check "$format: has what a container starts" grep -qxE '(\./)?sbin/init' "$work/list"
    check "$format: has the registration of its store" grep -q 'nix-path-registration' "$work/list"
  done
  ;;
esac

case $cases in *kexec*)
  # shellcheck disable=SC2086  # words
  of_system x86_64-linux installer $kexec
  mkdir "$work/kexec"
  tar -xJf "$(file_of kexec)" -C "$work/kexec"
  script=$work/kexec/$(readlink "$work/kexec/kexec_nixos")
  check "kexec: its script is one" is_script "$script"
  kernel=$work/kexec$(sed -n 's/^.* --load \([^ ]*\) .*/\1/p' "$script")
  check "kexec: it has the kernel that the script loads" sh -c "head -c 1024 '$kernel' | grep -aq HdrS"
  check "kexec: and the initrd, with the store" test "$(stat -c %s "$work/kexec$(sed -n 's/^initrd=//p' "$script" | head -n 1)")" -gt 50000000
  # It has no suffix, by which the files beside it differ.
  bundle=$(grep '/standin-kexec-bundle-' "$work/out")
  check "kexec-bundle: is a program" test -x "$bundle"
  check "kexec-bundle: with the archive in it" sh -c "tail -n +4 '$bundle' | tar -tJ 2> /dev/null | grep -q kexec_nixos"
  ;;
esac

case $cases in *scripts*)
  for format in $scripts; do
    build "$format"
    script=$(find "$work/images" -name 'run-standin-vm' | head -n 1)
    check "$format: is a script" is_script "$script"
    check "$format: that starts QEMU with the system" grep -q -- '-nixos-system-standin-' "$script"
  done
  ;;
esac

case $cases in *machine*)
  # shellcheck disable=SC2086  # words
  build $machine
  script=$(find "$work/images" -name 'run-standin-vm' | head -n 1)
  check "vm-bootloader: is a script" is_script "$script"
  # The script's disk is a copy of an image, which a virtual machine has made: it is in the builder's store.
  disk=$(grep -o '/nix/store/[^" ]*/nixos.qcow2' "$script" | head -n 1)
  container=$(docker create --volume nixos-image-store:/nix --entrypoint true nixos-image-builder)
  docker cp -q "$container:$disk" "$work/disk"
  docker rm "$container" > /dev/null
  rm -f "$work/raw"
  qemu-img convert -O raw "$work/disk" "$work/raw"
  looks_into vm-bootloader "$work/raw"
  check "vm-bootloader: NixOS' installer has put GRUB into the MBR" sh -c "head -c 512 '$work/raw' | grep -aq GRUB"
  root=$(root_of "$work/raw")
  check "vm-bootloader: and a menu that starts the system" sh -c "debugfs -R 'cat /boot/grub/grub.cfg' '$root' 2> /dev/null | grep -q 'linux .*init=/nix/store/.*-nixos-system-standin-'"
  ;;
esac

case $cases in *installers*)
  # shellcheck disable=SC2086  # words
  of_system x86_64-linux installer $installers
  for format in $installers; do
    iso=$(file_of "$format")
    check "$format: is delivered" test -s "$iso" || continue
    xorriso -indev "$iso" -find / -type f > "$work/list" 2> /dev/null
    for path in /EFI/BOOT/BOOTX64.EFI /boot/.*/bzImage /boot/.*/initrd /isolinux/isolinux.bin /boot/efi.img; do
      check "$format: has $path" grep -qix "'$path'" "$work/list"
    done
    xorriso -indev "$iso" -osirrox on -extract /nix-store.squashfs "$work/store" 2> /dev/null
    unsquashfs -l "$work/store" > "$work/list" 2> /dev/null
    check "$format: the system is in its store" grep -q -- '-nixos-system-standin-.*/init$' "$work/list"
    check "$format: with the installer" grep -q -- '/bin/nixos-install$' "$work/list"
    rm "$work/store"
  done
  check "install-iso-hyperv: with Hyper-V's programs" grep -q -- '-hyperv-daemons-' "$work/list"
  ;;
esac

# starts_with TEXT OFFSET FILE: whether the file has the text at this place
starts_with() { test "$(tail -c "+$(($2 + 1))" "$3" | head -c ${#1})" = "$1"; }

case $cases in *cards*)
  for format in $cards; do
    # Linux' images have their architecture's name in their first sector, those of 32-bit ARM a number.
    case $format in
      *riscv64*) of_system riscv64-linux configuration "$format"; magic=RISCV at=48 ;;
      *armv7l*) of_system armv7l-linux configuration "$format"; magic=$(printf '\030(o\001') at=36 ;;
      *) of_system aarch64-linux installer "$format"; magic=ARMd at=56 ;;
    esac
    image=$(file_of "$format")
    check "$format: is delivered" test -s "$image" || continue
    rm -f "$work/raw"
    zstd -qdc "$image" -o "$work/raw"
    looks_into "$format" "$work/raw"
    root=$(root_of "$work/raw")
    debugfs -R 'cat /boot/extlinux/extlinux.conf' "$root" > "$work/list" 2> /dev/null
    check "$format: its menu starts the system" grep -q 'APPEND init=/nix/store/.*-nixos-system-standin-.*/init' "$work/list"
    debugfs -R "dump /boot/extlinux/$(sed -n 's/^ *LINUX //p' "$work/list" | head -n 1) $work/kernel" "$root" 2> /dev/null
    check "$format: with a kernel of its architecture" starts_with "$magic" "$at" "$work/kernel"
  done
  ;;
esac

# of_i686 FILE: whether the file is a program of 32-bit PCs: its ELF class, and its machine
of_i686() { starts_with "$(printf '\177ELF\001')" 0 "$1" && starts_with "$(printf '\003')" 18 "$1"; }

case $cases in *i686*)
  # shellcheck disable=SC2086  # words
  of_system i686-linux configuration $i686
  for format in $i686; do
    image=$(file_of "$format")
    check "$format: is delivered" test -s "$image" || continue
    looks_into "$format" "$image"
    # Of the paths with this name only the package has a version at its end.
    init=$(sed -n 's,^/[^/]*/[^/]*/[^/]*/[^/]*/\([0-9a-z]\{32\}-systemd-[0-9.]*\)/.*,/nix/store/\1/lib/systemd/systemd,p' "$work/list" | head -n 1)
    rm -f "$work/init"
    debugfs -R "dump $init $work/init" "$(root_of "$image")" 2> /dev/null
    check "$format: its programs are i686's" of_i686 "$work/init"
    case $format in
      raw) check "raw: GRUB is in its MBR" sh -c "head -c 512 '$image' | grep -aq GRUB" ;;
      *)
        esp=$image@@$((512 * $(of_table "$image" 'partitions[0]["start"]')))
        check "$format: a 32-bit UEFI finds its loader" sh -c "mdir -/ -b -i '$esp' :: | grep -qi '/BOOTIA32.EFI\$'"
        ;;
    esac
  done
  ;;
esac
finish
