#!/bin/sh
# Tests nixpkgs' own recipes: an ISO image, a container archive, a system for kexec. The product's own command packs a NixOS of
# stand-ins (make-tree); the ISO is booted under UEFI and BIOS, the archive is run, what kexec would start is started by QEMU.
#
#   NIXPKGS=FOLDER tests/nixos/test_recipes.sh
. "$(dirname -- "$0")/../caller/lib.sh"
if [ -z "${NIXPKGS:-}" ] || [ "$(uname -m)" != x86_64 ]; then
  echo "skipped: takes a tree in NIXPKGS to make the stand-ins' of, and a PC, which has both firmwares"
  exit 0
fi
here=$project/tests/nixos
mkdir "$work/configuration"
cp "$here/stand-in.nix" "$work/configuration/configuration.nix"
ssh-keygen -q -t ed25519 -N '' -C test -f "$work/key"
# Disable a theme, whose pictures would be fetched, and an option that Debian's kernel does not support.
cat > "$work/configuration/packed.nix" << NIX
{
  imports = [ ./configuration.nix ];
  boot.kernelParams = [ "console=ttyS0" ];
  users.users.root.openssh.authorizedKeys.keys = [ "$(cat "$work/key.pub")" ];
  image.modules.kexec = { lib, ... }: {
    fileSystems."/nix/.ro-store" = lib.mkForce {
      device = "../nix-store.squashfs";
      fsType = "squashfs";
      options = [ "loop" ];
      neededForBoot = true;
    };
  };
  image.modules.iso = { lib, pkgs, ... }: {
    fileSystems."/nix/.ro-store" = lib.mkForce {
      device = "/sysroot/iso/nix-store.squashfs";
      fsType = "squashfs";
      options = [ "loop" ];
      neededForBoot = true;
    };
    isoImage.grubTheme = null;
    isoImage.splashImage = pkgs.writeText "splash.png" "";
    isoImage.efiSplashImage = pkgs.writeText "splash.png" "";
  };
}
NIX
"$here/make-tree" "$NIXPKGS" "$work/tree" x86_64-linux || exit 1

expect "an ISO image, a container's archive, its metadata and systems for kexec are packed" 0 'deliver' "$project/run.sh" \
  -c "$work/configuration/packed.nix" --nixpkgs "$work/tree" --option extra-sandbox-paths "$unpackers" --system x86_64-linux \
  -o "$work/images" -f iso -f docker -f lxc-metadata -f kexec -f kexec-bundle
iso=$(grep '\.iso$' "$work/out") archive=$(grep 'docker.*\.tar\.xz$' "$work/out") metadata=$(grep 'metadata.*\.tar\.xz$' "$work/out")
kexec=$(grep 'kexec.*\.tar\.xz$' "$work/out") bundle=$(grep 'kexec-bundle' "$work/out")

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
      nix-store --verify-path "$(readlink -f /run/current-system)" && echo registered' "$iso"
  check "$firmware: nixos-version answers" grep -q '"nixosVersion"' "$work/err"
  check "$firmware: all units are up" grep -qx 'running' "$work/err"
  check "$firmware: the store is the ISO's" grep -qx 'squashfs' "$work/err"
  check "$firmware: its paths are registered" grep -qx 'registered' "$work/err"
done

# The archive and its script run as on a machine. In place of kexec itself, QEMU starts the kernel with what kexec was given.
ssh-keygen -q -t ed25519 -N '' -C pubkey -f "$work/pubkey"
cat > "$work/start" << 'SH'
set -e
cp /tmp/pubkey.pub /ssh_pubkey
case $1 in
  *.tar.xz) tar -xJf "$1" -C / ;;
  *) tail -n +4 "$1" | tar -xJ -C / ;;
esac
kexec=$(echo /nix/store/*kexec-tools*/bin/kexec)
printf '%s\n' '#!/bin/sh' '[ "$1" = -e ] || printf "%s\n" "$2" "${3#--initrd=}" "$5" > /told' > /stub
rm -f "$kexec"
install -m 755 /stub "$kexec"
/kexec_nixos
kernel=$(sed -n 1p /told) initrd=$(sed -n 2p /told) line=$(sed -n 3p /told)
ls -d /nix/store/*-nixos-system-* 2> /dev/null || echo "the system is in the initrd alone"
[ -n "$2" ] || exit 0
qemu-system-x86_64 -m 3072 -nographic -no-reboot -kernel "$kernel" -initrd "$initrd" -append "$line" \
  -nic user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22 > /serial 2>&1 < /dev/null &
tries=0
until timeout 60 ssh -q -i /tmp/pubkey -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@127.0.0.1 \
  'cat /proc/cmdline; findmnt -no FSTYPE /; systemctl is-system-running --wait'; do
  tries=$((tries + 1))
  [ "$tries" -lt 90 ] || { tail -n 40 /serial; exit 1; }
  sleep 5
done
SH
# in_place IMAGE BOOT: runs the script above in a container; BOOT is empty if nothing is started
in_place() {
  tar -cf - -C "$work" start pubkey pubkey.pub -C "$(dirname "$1")" "$(basename "$1")" \
    | docker run --rm -i --network none --user 0 --entrypoint sh nixos-image-orchestrator -c \
      'tar -xf - -C /tmp && exec sh /tmp/start "/tmp/$1" "$2"' sh "$(basename "$1")" "$2"
}
expect "what kexec would start boots, and lets in a key of /ssh_pubkey" 0 '' in_place "$kexec" boot
check "the machine starts again if it does not come up" grep -q 'panic=30 boot.panic_on_fail' "$work/out"
check "its last console is the serial line" grep -q 'console=tty0 console=ttyS0,115200' "$work/out"
check "its root is memory" grep -qx tmpfs "$work/out"
check "the system is in the archive once" grep -qx 'the system is in the initrd alone' "$work/out"
expect "the bundle is the same, and unpacks itself" 0 '' in_place "$bundle" ''
check "also once" grep -qx 'the system is in the initrd alone' "$work/out"

docker import --change 'LABEL org.nixos-image=true' - nixos-image-test-packed < "$archive" > /dev/null
expect "the archive is a container's root, whose programs run" 0 '' docker run --rm --network none --env PATH=/sw/bin \
  --entrypoint nixos-version nixos-image-test-packed --json
check "they are this system's" grep -q '"nixosVersion"' "$work/out"
docker rmi nixos-image-test-packed > /dev/null
check "the metadata is LXC's" sh -c "tar -xJOf '$metadata' --wildcards '*metadata.yaml' | grep -q '\"architecture\":\"x86_64\"'"
finish
