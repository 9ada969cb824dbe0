#!/bin/sh
# Every format for every system that can have it, evaluated to derivations as on a machine of another system:
#
#   PYTHONPATH=. tests/nix/instantiate.sh NIXPKGS [FORMAT...]
#
# Nothing is built. SYSTEMS narrows the systems down. Checks, for each: the system in the image is the target's, what puts it
# together is the build machine's, and that the assembler accepts the spec. Prints one row each, in [] the target's packages
# that the image has data of.
set -eu

nixpkgs=$1
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/configuration.nix" <<'NIX'
{ lib, options, ... }:
{
  users.users.root.openssh.authorizedKeys.keys = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX test"
  ];
  # The tests' own: its compiler is not in every tree.
  nixpkgs.overlays = [
    (_: prev: let empty = prev.hello // { compiler.bootstrapAvailable = true; }; in { shellcheck = empty; shellcheck-minimal = empty; })
  ];
  # Installers have nixpkgs itself in them, which takes a minute to copy.
  system = lib.optionalAttrs (options.system ? installer) { installer.channel.enable = false; } // { stateVersion = "26.05"; };
}
NIX

# Packages of the target's that a native step takes data from, beside the system: boot loaders and firmware, which a binary cache
# has. Of an ISO, efi-directory and efi-image are nixpkgs' own steps, a second each; the rest are texts, pictures, downloads.
allowed='grub-|uboot-|raspberrypi-|config\.txt$|syslinux-|refind-|kexec-tools-|efi-directory$|efi-image_eltorito$'
allowed="$allowed|version$|source$|(efi-background|bios-boot)\\.png$|memtest86|isolinux\\.|grub$|loopback\\.cfg$|extra-commands\\.sh$"

formats() {
  nix-instantiate --eval --strict --json "$here/nix/formats.nix" | python3 -c '
import json, sys
for name, one in json.load(sys.stdin).items():
    for system in one["systems"]:
        print(name, system, one["assembler"])'
}

# inputs FORMAT SYSTEM BUILD_SYSTEM
inputs() {
  printf '{"nixpkgs":"%s","configuration":"%s","formats":["%s"],"systems":["%s"],"buildSystem":"%s"}\n' \
    "$nixpkgs" "$work/configuration.nix" "$1" "$2" "$3" >"$work/inputs.json"
}

# What a derivation says of itself; the file is an ATerm: Derive(outputs, inputs, sources, "system", "builder", ...
of_system() {
  grep -q "\\],\"$1\",\"" "$2" || { echo "$2: not of $1"; return 1; }
}

check() {
  format=$1 system=$2 assembler=$3
  case $system in
    x86_64-linux) build=aarch64-linux ;;
    *) build=x86_64-linux ;;
  esac
  if [ "$assembler" = vm ]; then
    build=$system
  fi
  inputs "$format" "$system" "$build"
  # The metadata of a container has no system in it.
  if [ "$format" = lxc-metadata ]; then
    nix-instantiate "$here/nix/build.nix" --arg inputs "$work/inputs.json" >"$work/drvs" 2>"$work/error" || { tail -n 12 "$work/error"; return 1; }
    of_system "$build" "$(cat "$work/drvs")" || return 1
    printf '%-20s %-14s %-8s\n' "$format" "$system" "$assembler"
    return
  fi
  if ! nix-instantiate "$here/nix/build.nix" --arg inputs "$work/inputs.json" \
    -A "$system.$format" -A "$system.$format.toplevel" >"$work/drvs" 2>"$work/error"; then
    grep -A 5 -m 1 '^ *error: [^ ]' "$work/error" || tail -n 12 "$work/error"
    return 1
  fi
  image=$(sed -n 1p "$work/drvs") toplevel=$(sed -n 2p "$work/drvs")
  image=${image%!*} toplevel=${toplevel%!*}
  of_system "$system" "$toplevel" || return 1
  of_system "$build" "$image" || return 1

  # The graphs, without sources.
  nix-store -qR "$toplevel" | grep '\.drv$' | sort >"$work/toplevel"
  nix-store -qR "$image" | grep '\.drv$' | sort >"$work/image"
  comm -13 "$work/toplevel" "$work/image" >"$work/beside"
  grep -qxF "$toplevel" "$work/image" || { echo "$image: does not have $toplevel in it"; return 1; }
  payload=
  if [ "$build" != "$system" ]; then
    # Nothing found is no error.
    xargs grep -l "\\],\"$system\",\"" <"$work/beside" >"$work/foreign" || true
    comm -23 "$work/beside" "$work/foreign" | xargs grep -oh '"/nix/store/[^"]*\.drv"' | tr -d '"' | sort -u |
      comm -12 - "$work/foreign" | sed 's,/nix/store/[0-9a-z]*-,,; s,\.drv$,,' >"$work/payload"
    if grep -Ev "^($allowed)" "$work/payload"; then
      echo "^ of $system, needed by steps of $build beside the system"
      return 1
    fi
    payload=$(tr '\n' ' ' <"$work/payload")
  fi

  name=-
  if [ "$assembler" = native ]; then
    name=$(nix --extra-experimental-features nix-command derivation show "$image" | python3 -c '
import json, sys
from orchestrator.image.spec import read_spec
(drv,) = json.load(sys.stdin).values()
spec = read_spec(drv["env"]["spec"])
assert spec.system == sys.argv[1], spec.system
assert spec.toplevel in drv["env"]["spec"]
assert spec.file_name.endswith(sys.argv[2]), spec.file_name
print(spec.file_name, spec.partitionTable, ",".join(spec.boots_under) or "-")' "$system" "")
  fi
  printf '%-20s %-14s %-8s %s  [%s]\n' "$format" "$system" "$assembler" "$name" "${payload% }"
}

failed=0
formats >"$work/formats"
while read -r format system assembler; do
  case " ${*:-$format} " in *" $format "*) ;; *) continue ;; esac
  case " ${SYSTEMS:-$system} " in *" $system "*) ;; *) continue ;; esac
  if ! check "$format" "$system" "$assembler" </dev/null; then
    echo "FAILED $format $system"
    failed=1
  fi
done <"$work/formats"
exit "$failed"
