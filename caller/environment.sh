# Reads the caller's environment, as far as it says what is built.
# shellcheck shell=sh

# find_nixpkgs: sets $nixpkgs to the folder that NIX_PATH names as nixpkgs. An entry is NAME=PATH, or a folder in which names are
# looked up. If the first one of nixpkgs is an address, which Nix would fetch, $nixpkgs stays empty.
find_nixpkgs() {
  left=${NIX_PATH:-}
  while [ -n "$left" ]; do
    entry=${left%%:*}
    case $left in *:*) left=${left#*:} ;; *) left= ;; esac
    case $entry in
      nixpkgs=flake | nixpkgs=channel | nixpkgs=http | nixpkgs=https | nixpkgs=file) return ;;
      nixpkgs=*) entry=${entry#nixpkgs=} ;;
      '' | *=*) continue ;;
      *) entry=$entry/nixpkgs ;;
    esac
    if [ -f "$entry/nixos/lib/eval-config.nix" ]; then absolute "$entry"; nixpkgs=$absolute; return; fi
  done
}
