#!/bin/sh
# Builds an image as nixpkgs does it, in a virtual machine, where the builder has no KVM: QEMU emulates it, with stand-ins (make-tree).
#
#   NIXPKGS=FOLDER tests/nixos/test_machine.sh
. "$(dirname -- "$0")/lib.sh"
if [ -z "${NIXPKGS:-}" ] || [ "$(uname -m)" != x86_64 ]; then
  echo "skipped: takes a tree in NIXPKGS to make the stand-ins' of, and a PC, of whose QEMU there is a stand-in"
  exit 0
fi
programs mdir debugfs
mkdir "$work/configuration"
cp "$here/stand-in.nix" "$work/configuration/configuration.nix"
# shellcheck disable=SC2016  # variables of the builder
printf '%s\n' '{ imports = [ ./configuration.nix ]; nixosImage = { touchEFIVars = true; postVM = "echo after $diskImage > $out/after"; }; }' \
  > "$work/configuration/variables.nix"
stand_in_tree x86_64-linux

expect "a virtual machine without KVM makes an image" 0 'deliver' run_stand_ins -c "$work/configuration/variables.nix" \
  --system x86_64-linux -f raw-efi -o "$work/images" --yes
check "which is told, with its place" grep -q 'touchEFIVars (.*variables.nix:1) takes a virtual machine' "$work/err"
check "builds are in the sandbox" sh -c "! grep -q 'builds are not sandboxed' '$work/err'"
check "commands have run after it" grep -q 'after .*img' "$work/images/after"
check "UEFI variables are delivered" test -s "$work/images/efi-vars.fd"
# Debian's bootctl looks for its programs below /usr, finds none, and ends after it has made the folders.
disk=$(find "$work/images" -name '*.img' | head -n 1)
check "NixOS' installer of systemd-boot has begun on the ESP" sh -c "mdir -b -i '$disk@@8M' ::/EFI | grep -qi /systemd"
check "the system is on the root" sh -c "debugfs -R 'ls -p /nix/store' '$disk?offset=$((1050624 * 512))' 2> /dev/null | grep -q -- '-nixos-system-standin-'"
finish
