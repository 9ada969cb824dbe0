#!/bin/sh
# Builds the formats of a PC that no other script builds, from stand-in packages (make-tree), and looks into each file with programs
# that are not this project's. Nothing is booted. A format that this script has built is "built" in nix/formats.nix (`tried`).
#
#   NIXPKGS=FOLDER tests/nixos/test_formats.sh [disks|packed|scripts|machine...]
. "$(dirname -- "$0")/lib.sh"
if [ -z "${NIXPKGS:-}" ] || [ "$(uname -m)" != x86_64 ]; then
  echo "skipped: takes a tree in NIXPKGS to make the stand-ins' of, and a PC, which has most of the formats"
  exit 0
fi
disks='amazon azure cloudstack digital-ocean google-compute hyperv kubevirt linode oci openstack proxmox qemu raw sd-x86_64
  vagrant-virtualbox virtualbox vmware'
packed='kexec kexec-bundle lxc proxmox-lxc'
scripts='vm vm-nogui'
machine='vm-bootloader'
cases=${*:-disks packed scripts machine}
programs qemu-img sfdisk debugfs zstd
mkdir "$work/configuration"
cp "$here/stand-in.nix" "$work/configuration/stand-in.nix"
# Disable GRUB's picture, which would be fetched.
echo '{ imports = [ ./stand-in.nix ]; boot.loader.grub.splashImage = null; }' > "$work/configuration/configuration.nix"
stand_in_tree x86_64-linux

# build FORMAT...: builds images of these formats in one go, into $work/images
build() {
  rm -rf "$work/images"
  # shellcheck disable=SC2046  # words
  expect "built: $*" 0 'deliver' run_stand_ins -c "$work/configuration/configuration.nix" \
    --system x86_64-linux -o "$work/images" --yes $(printf -- '-f %s ' "$@")
}

# fact FORMAT NAME: a value of the format in the table of formats
fact() {
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]].get(sys.argv[3], ""))' "$project/nix/formats.json" "$1" "$2"
}

# file_of FORMAT: the image of the format, by the name that it has
file_of() { find "$work/images" -maxdepth 1 -name "standin-$1-x86_64-linux-*.$(fact "$1" suffix)"; }

# of_table FILE EXPRESSION: evaluates a Python expression with sfdisk's `table` and the list `partitions`, by offset
of_table() {
  sfdisk --json "$1" 2> /dev/null | python3 -c 'import json, sys
table = json.load(sys.stdin)["partitiontable"]
partitions = sorted(table.get("partitions", []), key=lambda one: one["start"])
print(eval(sys.argv[1]))' "$2"
}

# looks_into NAME RAW: whether the disk has partitions, and the system on the last one
looks_into() {
  check "$1: it has partitions" test "$(of_table "$2" 'len(partitions)')" -ge 1
  check "$1: the system is on its root" sh -c "debugfs -R 'ls -p /nix/store' '$2?offset=$((512 * $(of_table "$2" 'partitions[-1]["start"]')))' \
    2> /dev/null | grep -q -- '-nixos-system-standin-'"
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
        check "$format: has what Vagrant reads" test "$(tar -tf "$image" | sort | tr '\n' ' ')" = "Vagrantfile box.ovf disk.vmdk metadata.json "
        check "$format: its machine is well-formed XML" sh -c "tar -xOf '$image' box.ovf | python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.stdin.buffer)'"
        tar -xOf "$image" disk.vmdk > "$disk"
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

case $cases in *packed*)
  # shellcheck disable=SC2086  # words
  build $packed
  for format in lxc proxmox-lxc; do
    archive=$(file_of "$format")
    tar -tJf "$archive" > "$work/list" 2> /dev/null
    check "$format: has the system" grep -q -- '-nixos-system-standin-.*/init$' "$work/list"
    check "$format: has what a container starts" grep -qx './sbin/init' "$work/list"
    check "$format: has the registration of its store" grep -q 'nix-path-registration' "$work/list"
  done
  mkdir "$work/kexec"
  tar -xJf "$(file_of kexec)" -C "$work/kexec"
  script=$work/kexec/$(readlink "$work/kexec/kexec_nixos")
  check "kexec: its script is one" sh -n "$script"
  kernel=$work/kexec$(sed -n 's/^.* --load \([^ ]*\) .*/\1/p' "$script")
  check "kexec: it has the kernel that the script loads" sh -c "head -c 1024 '$kernel' | grep -aq HdrS"
  check "kexec: and the initrd, with the store" test "$(stat -c %s "$work/kexec$(sed -n 's/^initrd=//p' "$script" | head -n 1)")" -gt 50000000
  bundle=$(find "$work/images" -maxdepth 1 -name 'standin-kexec-bundle-*')
  check "kexec-bundle: is a program" test -x "$bundle"
  check "kexec-bundle: with the archive in it" sh -c "tail -n +4 '$bundle' | tar -tJ 2> /dev/null | grep -q kexec_nixos"
  ;;
esac

case $cases in *scripts*)
  for format in $scripts; do
    build "$format"
    script=$(find "$work/images" -name 'run-standin-vm' | head -n 1)
    check "$format: is a script" sh -n "$script"
    check "$format: that starts QEMU with the system" grep -q -- '-nixos-system-standin-' "$script"
  done
  ;;
esac

case $cases in *machine*)
  # shellcheck disable=SC2086  # words
  build $machine
  script=$(find "$work/images" -name 'run-standin-vm' | head -n 1)
  check "vm-bootloader: is a script" sh -n "$script"
  # The script's disk is a copy of an image, which a virtual machine has made: it is in the builder's store.
  disk=$(grep -o '/nix/store/[^" ]*/nixos.qcow2' "$script" | head -n 1)
  container=$(docker create --volume nixos-image-store:/nix --entrypoint true nixos-image-builder)
  docker cp -q "$container:$disk" "$work/disk"
  docker rm "$container" > /dev/null
  rm -f "$work/raw"
  qemu-img convert -O raw "$work/disk" "$work/raw"
  looks_into vm-bootloader "$work/raw"
  check "vm-bootloader: NixOS' installer has put GRUB into the MBR" sh -c "head -c 512 '$work/raw' | grep -aq GRUB"
  root="$work/raw?offset=$((512 * $(of_table "$work/raw" 'partitions[-1]["start"]')))"
  check "vm-bootloader: and a menu that starts the system" sh -c "debugfs -R 'cat /boot/grub/grub.cfg' '$root' 2> /dev/null | grep -q 'linux .*init=/nix/store/.*-nixos-system-standin-'"
  ;;
esac
finish
