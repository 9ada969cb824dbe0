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

# find_home: makes $HOME absolute, as the orchestrator and all lists of paths have it
find_home() { case ${HOME:-/} in /*) ;; *) absolute "$HOME"; HOME=$absolute ;; esac; }

# certificates FILE: prints how many certificates in PEM format the file has, by each of the three names that OpenSSL reads
certificates() { grep -cE '^-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----' "$1"; }

# find_ca_bundle: sets $ca_bundle to the file of certificates that the caller's https needs; empty if no variable names one. `doctor`
# has a finding for a file that is none.
find_ca_bundle() {
  ca_variable=SSL_CERT_FILE ca_file=${SSL_CERT_FILE:-}
  [ -n "$ca_file" ] || ca_variable=NIX_SSL_CERT_FILE ca_file=${NIX_SSL_CERT_FILE:-}
  [ -n "$ca_file" ] || return 0
  if [ ! -f "$ca_file" ] || [ ! -r "$ca_file" ]; then
    [ -n "$examining" ] || say "warning: $ca_variable: $ca_file is no file that can be read: https goes without it"
  elif certificates "$ca_file" > /dev/null; then
    absolute "$ca_file"
    ca_bundle=$absolute
  else
    [ -n "$examining" ] || die 2 "$ca_variable: $ca_file has no certificate in PEM format" "set $ca_variable to a file of certificates, or unset it"
  fi
}
