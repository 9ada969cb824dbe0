#!/bin/sh
# Builds a real NixOS with the product's own command, from stand-in packages (make-tree), and boots it: as raw and qcow2 under
# UEFI and BIOS, as an SD card for aarch64 through the emulating builder. docs/verification.md says what this cannot show. Takes
# an hour where QEMU has to emulate.
#
#   NIXPKGS=FOLDER tests/nixos/test_boot.sh [x86_64|aarch64|cloud|devices|limine...]
#
# Debian has no Limine: LIMINE names a folder with its programs for x86_64 as `make install` arranges them, with a static bin/limine.
. "$(dirname -- "$0")/lib.sh"
if [ -z "${NIXPKGS:-}" ]; then
  echo "skipped: NIXPKGS names no tree to make the stand-ins' of"
  exit 0
fi
cases=${*:-x86_64 aarch64 cloud devices ${LIMINE:+limine}}
programs sfdisk mtype mcopy mkfs.vfat ssh-keygen
native=$(uname -m)-linux
before=$(table)
mkdir "$work/configuration"
cp "$here/stand-in.nix" "$work/configuration/configuration.nix"
foreign=
case $cases in *aarch64*) foreign=aarch64-linux ;; esac
# shellcheck disable=SC2086
stand_in_tree "$native" ${foreign:+"$foreign"}

# build NAME OPTIONS...: builds images of the configuration NAME
build() {
  of=$1
  shift
  run_stand_ins -c "$work/configuration/$of.nix" -o "$work/out folder" "$@"
}

# Questions to a booted system: the first boot must have grown the root and registered the store paths.
# shellcheck disable=SC2016
questions='nixos-version --json; hostname; systemctl is-system-running --wait; systemctl --failed --no-legend;
  df --output=size -m / | tail -n 1; nix-store --verify-path "$(readlink -f /run/current-system)" && echo registered;
  readlink /nix/var/nix/profiles/system; ls /boot'

# boots NAME IMAGE OPTIONS...: boots the image on a larger disk, logs in and checks the answers to the questions
boots() {
  what=$1 image=$2
  shift 2
  expect "$what boots and lets the key in" 0 'booted' "$project/run.sh" boot --test --boot-timeout 1500 --grow 6G --run "$questions" "$@" "$image"
  check "$what: nixos-version answers" grep -q '"nixosVersion"' "$work/err"
  check "$what: all units are up" grep -qx 'running' "$work/err"
  # shellcheck disable=SC2016
  check "$what: the root has grown" awk '/^ *[0-9]+$/ { found = $1 > 5000 } END { exit !found }' "$work/err"
  check "$what: the store's paths are registered" grep -qx 'registered' "$work/err"
  check "$what: it is generation 1" grep -qx 'system-1-link' "$work/err"
}

case $cases in *x86_64*)
  expect "raw-efi and qcow2 are built in one go" 0 'deliver' build configuration -f raw-efi -f qcow-efi --system x86_64-linux
  raw=$(grep 'raw-efi' "$work/out") qcow=$(grep 'qemu-efi' "$work/out")
  check "the raw image's partitions are a hybrid disk's" sh -c "sfdisk --dump '$raw' | grep -c 'type=' | grep -qx 3"
  expect "its loader entry is systemd-boot's own" 0 '' mtype -i "$raw@@$(($(sfdisk --json "$raw" | python3 -c '
import json, sys; print(json.load(sys.stdin)["partitiontable"]["partitions"][0]["start"])') * 512))" "::/loader/entries/nixos-*.conf"
  check "with the system's init" grep -q '^options init=/nix/store/.*-nixos-system-standin-.*/init' "$work/out"
  boots "raw-efi under UEFI" "$raw" --firmware uefi
  boots "the same under BIOS" "$raw" --firmware bios
  boots "qcow2" "$qcow"
  rm -r "$work/out folder"
  ;;
esac

case $cases in *aarch64*)
  expect "an SD card and a raw-efi for aarch64 are built" 0 'deliver' build configuration -f sd-aarch64 -f raw-efi --system aarch64-linux --compress none
  card=$(grep 'sd-card' "$work/out") raw=$(grep 'raw-efi' "$work/out")
  check "the card's partitions are those of NixOS' cards" sh -c "sfdisk --dump '$card' | grep -c 'type=\(b\|83\)' | grep -qx 2"
  boots "the SD card under U-Boot" "$card"
  boots "raw-efi for aarch64" "$raw"
  check "and the table is as it was" nothing_left
  rm -r "$work/out folder"
  ;;
esac

case $cases in *cloud*)
  cat > "$work/configuration/cloud.nix" << 'NIX'
{ lib, ... }: { imports = [ ./configuration.nix ]; nixosImage.cloud.enable = true; networking.hostName = lib.mkForce ""; }
NIX
  expect "a cloud's image is built" 0 'deliver' build cloud -f qcow-efi --system "$native"
  image=$(cat "$work/out")
  boots "the cloud's image" "$image"

  # Only cloud-init's seed has this key: with --identity the check writes no key.
  ssh-keygen -q -t ed25519 -N '' -C seed -f "$work/key"
  mkdir "$work/seed"
  printf '%s\n' 'instance-id: i-1' 'local-hostname: seeded' > "$work/seed/meta-data"
  printf '%s\n' '#cloud-config' "ssh_authorized_keys: [ \"$(cat "$work/key.pub")\" ]" \
    'runcmd: [ [ sh, -c, "echo runcmd ran > /root/seen" ] ]' > "$work/seed/user-data"
  mkfs.vfat -C -n CIDATA "$work/seed.img" 1024 > /dev/null
  mcopy -i "$work/seed.img" "$work/seed/meta-data" "$work/seed/user-data" ::
  questions="$questions; cat /root/seen"
  boots "the cloud's image with a seed" "$image" --seed "$work/seed.img" --identity "$work/key"
  check "its host name is the seed's" grep -qx 'seeded' "$work/err"
  check "and the seed's command has run" grep -qx 'runcmd ran' "$work/err"
  rm -r "$work/out folder"
  ;;
esac

case $cases in *limine*)
  cp -r "${LIMINE:?names no folder with the programs of Limine}" "$work/configuration/limine"
  # NixOS' installer of Limine is in the system; it is not run, so that its programs may be missing.
  cat > "$work/configuration/limine.nix" << 'NIX'
{ pkgs, ... }:
{
  imports = [ ./configuration.nix ];
  nixpkgs.overlays = [ (final: prev: {
    python3 = prev.python3 // { withPackages = _: prev.python3; };
    efibootmgr = final.runCommand "efibootmgr" { } "mkdir $out";
    sbctl = final.runCommand "sbctl" { } "mkdir $out";
  }) ];
  boot.loader.limine = {
    enable = true;
    biosSupport = true;
    efiSupport = true;
    panicOnChecksumMismatch = true;
    enrollConfig = false;
    extraConfig = "serial: yes";
    style.wallpapers = [ ];
    package = pkgs.runCommand "limine" { } "cp -r ${./limine} $out";
  };
  specialisation.other.configuration.networking.domain = "example";
}
NIX
  expect "an image with Limine is built" 0 'deliver' build limine -f raw-efi --system x86_64-linux
  raw=$(cat "$work/out")
  boots "Limine under UEFI" "$raw" --firmware uefi
  check "its menu is on the ESP" grep -qx 'limine' "$work/err"
  boots "Limine under BIOS" "$raw" --firmware bios
  rm -r "$work/out folder"
  ;;
esac

case $cases in *devices*)
  # The configuration has a host name, keys of root and a Wi-Fi network. The stand-in of wpa_supplicant is empty: its unit is not run.
  cat > "$work/configuration/fleet.nix" << 'NIX'
{ lib, ... }:
{
  imports = [ ./configuration.nix ];
  networking.wireless = { enable = true; networks.home.psk = "12345678"; };
  systemd.services.wpa_supplicant.wantedBy = lib.mkForce [ ];
  users.users.me = { isNormalUser = true; uid = 1000; };
}
NIX
  ssh-keygen -q -t ed25519 -N '' -C device -f "$work/device"
  for row in alpha,root beta,me; do
    printf '%s,%s,%s,net,correct horse\n' "${row%,*}" "$(cat "$work/device.pub")" "${row#*,}"
  done | { echo host,ssh_key,ssh_user,wifi_ssid,wifi_password; cat; } > "$work/devices.csv"
  echo injected > "$work/file"
  expect "an image is made for each device" 0 'deliver' build fleet -f raw-efi --system "$native" --stamp "$work/devices.csv" \
    --inject "$work/file:/var/lib/app/:640:1000:100"
  alpha=$(grep 'alpha' "$work/out") beta=$(grep 'beta' "$work/out")
  # The device's values are there after the boot, and after an activation as `nixos-rebuild switch` does it.
  # shellcheck disable=SC2016
  questions='values() { echo "$1: $(hostname) $(cat /etc/hostname) $(cut -d " " -f 3 /etc/ssh/device_keys.d/root) \
    $(stat -c "%u:%g %a" /var/lib/app/file) $(stat -c %a /etc/wpa_supplicant/imperative.conf)" | tr -s " "; }
    values booted; /run/current-system/activate > /dev/null 2>&1; values activated
    grep -o "[-]c /etc[^ ]* -I [^ ]*" $(sed -n "s/^ExecStart=//p" /etc/systemd/system/wpa_supplicant.service)'
  expect "a device lets its own key in" 0 'booted' "$project/run.sh" boot --test --boot-timeout 1500 --identity "$work/device" --run "$questions" "$alpha"
  for moment in booted activated; do
    check "$moment, its values are there" grep -qx "$moment: alpha alpha device 1000:100 640 600" "$work/err"
  done
  check "wpa_supplicant reads the device's network" grep -q -- '-c /etc/wpa_supplicant/imperative.conf -I /etc/wpa_supplicant/nixos.conf' "$work/err"
  expect "another device lets its user in" 0 'booted' "$project/run.sh" boot --test --boot-timeout 1500 --identity "$work/device" --user me --run hostname "$beta"
  check "under its own name" grep -qx 'beta' "$work/err"
  ;;
esac
finish
