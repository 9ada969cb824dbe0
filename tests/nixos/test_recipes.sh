#!/bin/sh
# Tests nixpkgs' own recipes: an ISO image and a container archive. The product's own command packs a NixOS of stand-ins
# (make-tree); the ISO is booted under UEFI and BIOS, the archive is run.
#
#   NIXPKGS=FOLDER tests/nixos/test_recipes.sh
. "$(dirname -- "$0")/lib.sh"
if [ -z "${NIXPKGS:-}" ] || [ "$(uname -m)" != x86_64 ]; then
  echo "skipped: takes a tree in NIXPKGS to make the stand-ins' of, and a PC, which has both firmwares"
  exit 0
fi
programs sfdisk ssh-keygen
mkdir "$work/configuration"
cp "$here/stand-in.nix" "$work/configuration/configuration.nix"
ssh-keygen -q -t ed25519 -N '' -C test -f "$work/key"
# Disable a theme, whose pictures would be fetched, and an option that Debian's kernel does not support. Compress fast: nixpkgs' level
# takes minutes.
cat > "$work/configuration/packed.nix" << NIX
{
  imports = [ ./configuration.nix ];
  boot.kernelParams = [ "console=ttyS0" ];
  users.users.root.openssh.authorizedKeys.keys = [ "$(cat "$work/key.pub")" ];
  image.modules.iso = { lib, pkgs, ... }: {
    fileSystems."/nix/.ro-store" = lib.mkForce {
      device = "/sysroot/iso/nix-store.squashfs";
      fsType = "squashfs";
      options = [ "loop" ];
      neededForBoot = true;
    };
    isoImage.squashfsCompression = "zstd -Xcompression-level 1";
    isoImage.grubTheme = null;
    isoImage.splashImage = pkgs.writeText "splash.png" "";
    isoImage.efiSplashImage = pkgs.writeText "splash.png" "";
  };
}
NIX
stand_in_tree x86_64-linux

expect "an ISO image, a container's archive and its metadata are packed" 0 'deliver' run_stand_ins \
  -c "$work/configuration/packed.nix" --system x86_64-linux -o "$work/images" -f iso -f docker -f lxc-metadata
iso=$(grep '\.iso$' "$work/out") archive=$(grep 'docker.*\.tar\.xz$' "$work/out") metadata=$(grep 'metadata.*\.tar\.xz$' "$work/out")

# is FILE SIZE OFFSET HEX: whether FILE has at OFFSET these SIZE bytes, given as hex digits
is() { test "$(od -An -tx1 -j "$3" -N "$2" "$1" | tr -d ' \n')" = "$4"; }
check "it is an ISO 9660 file system" is "$iso" 5 32769 4344303031
check "and a disk that a BIOS starts" is "$iso" 2 510 55aa
check "and UEFI" sh -c "sfdisk --dump '$iso' 2> /dev/null | grep -qiE 'type=(ef|C12A7328-)'"
for firmware in uefi bios; do
  # shellcheck disable=SC2016
  expect "it starts under $firmware and lets the key in" 0 'booted' "$project/run.sh" boot --test --system x86_64-linux \
    --firmware "$firmware" --boot-timeout 1500 --identity "$work/key" \
    --run 'nixos-version --json; systemctl is-system-running --wait; findmnt -no FSTYPE /nix/.ro-store
      ls /sys/class/net; nix-store --verify-path "$(readlink -f /run/current-system)" && echo registered' "$iso"
  check "$firmware: nixos-version answers" grep -q '"nixosVersion"' "$work/err"
  check "$firmware: all units are up" grep -qx 'running' "$work/err"
  check "$firmware: the store is the ISO's" grep -qx 'squashfs' "$work/err"
  check "$firmware: its paths are registered" grep -qx 'registered' "$work/err"
  # Where udev renames it, the stand-in of dhcpcd may wait for ever.
  check "$firmware: its network card has the kernel's name" grep -qx 'eth0' "$work/err"
done

docker import --change 'LABEL org.nixos-image=true' - nixos-image-test-packed < "$archive" > /dev/null
expect "the archive is a container's root, whose programs run" 0 '' docker run --rm --network none --env PATH=/sw/bin \
  --entrypoint nixos-version nixos-image-test-packed --json
check "they are this system's" grep -q '"nixosVersion"' "$work/out"
docker rmi nixos-image-test-packed > /dev/null
check "the metadata is LXC's" sh -c "tar -xJOf '$metadata' --wildcards '*metadata.yaml' | grep -q '\"architecture\":\"x86_64\"'"
finish
