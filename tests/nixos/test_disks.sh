#!/bin/sh
# Tests disk options from a configuration to the image file: partition tables, file formats, contents, sizes, names. A NixOS of
# stand-ins (make-tree) is built by the product's own command and inspected; nothing is booted.
#
#   NIXPKGS=FOLDER tests/nixos/test_disks.sh
. "$(dirname -- "$0")/lib.sh"
if [ -z "${NIXPKGS:-}" ] || [ "$(uname -m)" != x86_64 ]; then
  echo "skipped: takes a tree in NIXPKGS to make the stand-ins' of, and a PC, which has all the tables"
  exit 0
fi
programs qemu-img sfdisk debugfs mdir
mkdir -p "$work/configuration/data"
cp "$here/stand-in.nix" "$work/configuration/configuration.nix"
echo 'of a folder' > "$work/configuration/data/file"
stand_in_tree x86_64-linux

# build NAME MODULE OPTIONS...: builds an image; sets $image, $raw (the disk as a raw image) and $root (the root partition's
# place)
build() {
  name=$1
  printf '{ pkgs, ... }: { imports = [ ./configuration.nix ]; nixosImage = %s; }\n' "$2" > "$work/configuration/$name.nix"
  shift 2
  rm -rf "$work/images"
  expect "$name is built" 0 'deliver' run_stand_ins -c "$work/configuration/$name.nix" \
    --system x86_64-linux -o "$work/images" "$@"
  # A small file of a format of one's own may be finished before the disk.
  image=$(grep -v "\.txt\$" "$work/out" | head -n 1)
  info=$(qemu-img info --output=json "$image")
  raw=$work/raw
  rm -f "$raw"
  qemu-img convert -O raw "$image" "$raw"
  sfdisk --json "$raw" > "$work/table" 2> /dev/null || echo '{"partitiontable": {}}' > "$work/table"
  root="$raw?offset=$((512 * $(of_table '([one["start"] for one in partitions] or [0])[-1]')))"
}

# of_table EXPRESSION: evaluates a Python expression with sfdisk's `table` and the list `partitions`, by offset
of_table() {
  python3 -c 'import json, sys
table = json.load(open(sys.argv[1]))["partitiontable"]
partitions = sorted(table.get("partitions", []), key=lambda one: one["start"])
print(eval(sys.argv[2]))' "$work/table" "$1"
}

types() { of_table 'table.get("label", "none") + ":" + ",".join(one["type"][:8] for one in partitions)'; }

# on_fat NUMBER PATTERN: whether the disk's NUMBERth partition, a FAT, has a file that matches
on_fat() { mdir -/ -b -i "$raw@@$((512 * $(of_table "partitions[$1 - 1]['start']")))" :: | grep -qiE -- "$2"; }

# on_root PATTERN REQUEST: whether debugfs' answer about the root file system matches
on_root() { debugfs -R "$2" "$root" 2> /dev/null | grep -qE -- "$1"; }

# of_kind FORMAT: whether QEMU detects this format of the image file
of_kind() { test "$(echo "$info" | python3 -c 'import json, sys; print(json.load(sys.stdin)["format"])')" = "$1"; }

cat > "$work/configuration/card.nix" << 'NIX'
{ pkgs, config, ... }:
{
  formatAttr = "card";
  fileExtension = ".txt";
  system.build.card = pkgs.writeText "greeting-card" "from ${config.networking.hostName}";
  fileSystems."/".device = "/dev/null";
  boot.loader.grub.enable = false;
}
NIX
# shellcheck disable=SC2016
build efi '{
  partitionTableType = "efi";
  label = "own-root";
  baseName = "my disk";
  bootSize = "300M";
  additionalSpace = "700M";
  rootFSUID = "11111111-2222-3333-4444-555555555555";
  rootGPUID = "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE";
  configFile = ./configuration.nix;
  additionalPaths = [ (pkgs.writeText "something-more" "more") ];
  contents = [
    { source = pkgs.writeText "one" "of a file"; target = "/etc/one"; mode = "0640"; user = "root"; group = "wheel"; }
    { source = ./data; target = "/srv/data"; user = 1234; group = 100; }
    { source = pkgs.runCommand "cores" { } "echo $NIX_BUILD_CORES > $out"; target = "/cores"; mode = "444"; }
  ];
}' -f raw-efi --cores 3 --format-path "$work/configuration/card.nix"
check "its name" test "$(basename "$image")" = "my disk.img"
check "its partitions" test "$(types)" = gpt:C12A7328,0FC63DAF
check "the ESP's size" test "$(of_table 'partitions[0]["size"] // 2048')" = 300
check "the root partition's identifier" test "$(of_table 'partitions[1]["uuid"]')" = AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE
check "the root's UUID" on_root '^Filesystem UUID: +11111111-2222-3333-4444-555555555555' 'stats -h'
check "the root's label" on_root '^Filesystem volume name: +own-root$' 'stats -h'
check "what stays free" sh -c "debugfs -R 'stats -h' '$root' 2> /dev/null | awk '/^Free blocks/ { free = \$3 / 256 } END { exit !(free > 690 && free < 900) }'"
check "a file's mode" on_root 'Mode: +0640 ' 'stat /etc/one'
check "its owner and group, by their names" on_root '^User: +0 +Group: +1 ' 'stat /etc/one'
check "its text" on_root '^of a file' 'cat /etc/one'
check "a folder's file has its owner" on_root '^User: +1234 +Group: +100 ' 'stat /srv/data/file'
check "the configuration's file" on_root 'networking.hostName = "standin"' 'cat /etc/nixos/configuration.nix'
check "additional paths" on_root '-something-more' 'ls -p /nix/store'
check "--cores reaches the builders" on_root '^3$' 'cat /cores'
check "a format of one's own is built, too" test "$(cat "$work/images/greeting-card.txt")" = "from standin"

build legacy '{ partitionTableType = "legacy"; format = "qcow2-compressed"; }' -f raw
check "is compressed qcow2" sh -c "qemu-img check --output=json '$image' | grep -qE '\"compressed-clusters\": [1-9]'"
check "its partitions" test "$(types):$(of_table 'partitions[0]["bootable"]')" = dos:83:True
check "GRUB is in the MBR" sh -c "head -c 512 '$raw' | grep -aq GRUB"
check "its menu is on the root" on_root '^ *linux .* init=/nix/store/' 'cat /boot/grub/grub.cfg'

build legacy-boot '{ partitionTableType = "legacy+boot"; format = "vpc"; bootSize = "auto"; }' -f raw
check "is a VHD" of_kind vpc
check "its partitions" test "$(types)" = dos:c,83
check "the menu is on BOOT" on_fat 1 '/grub/grub.cfg$'
check "so are the kernels" on_fat 1 '/kernels/.*-initrd$'

build legacy-gpt '{ partitionTableType = "legacy+gpt"; format = "vdi"; }' -f raw
check "is a VDI" of_kind vdi
check "its partitions" test "$(types)" = gpt:21686148,0FC63DAF

build efixbootldr '{ partitionTableType = "efixbootldr"; format = "vmdk"; copyChannel = true; diskSize = "5G"; }' -f raw-efi
check "is a VMDK" of_kind vmdk
check "its size" test "$(stat -c %s "$raw")" = $((5 << 30))
check "its partitions" test "$(types)" = gpt:C12A7328,BC13C2FF,0FC63DAF
check "the loader is on the ESP" on_fat 1 '/BOOTX64.EFI$'
check "its entries are on the other one" on_fat 2 '/loader/entries/nixos-[0-9a-z-]*.conf$'
check "nixpkgs is there as a channel" on_root '-nixos-channel' 'ls -p /nix/store'

build hybrid '{ partitionTableType = "hybrid"; format = "vhdx"; }' -f qcow-efi
check "is a VHDX" of_kind vhdx
check "its partitions" test "$(types)" = gpt:21686148,C12A7328,0FC63DAF

build store '{ onlyNixStore = true; format = "qcow2"; }; fileSystems."/" = { device = "none"; fsType = "tmpfs"; }' -f raw-efi
check "is plain qcow2" sh -c "! qemu-img check --output=json '$image' | grep -qE '\"compressed-clusters\": [1-9]'"
check "has no partitions" test "$(types)" = none:
check "is a store alone" on_root '/[0-9a-z]{32}-nixos-system-standin' 'ls -p /'
check "by the label that a store has" on_root '^Filesystem volume name: +nix-store$' 'stats -h'
finish
