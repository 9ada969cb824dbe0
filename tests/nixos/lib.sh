# Shared by the tests that build a NixOS of stand-ins: one tree for all of them, which is made where it is missing or old.
# shellcheck shell=sh
. "$(dirname -- "$0")/../caller/lib.sh"
here=$project/tests/nixos

# The folder of the tree: run.sh keeps a copy of it in a volume, so a script that comes later has nothing to send.
stand_ins=${STAND_INS:-${XDG_CACHE_HOME:-$HOME/.cache}/nixos-image-tests/stand-ins}

# stand_in_tree SYSTEM...: makes the tree for these systems; ends the script where it cannot
stand_in_tree() {
  "$here/make-tree" "$NIXPKGS" "$stand_ins" "$@" && return
  rm -rf "$work"
  exit 1
}

# run_stand_ins OPTIONS...: run.sh with the tree. Nix' sandbox shows files of the builder's image, which unpack the first stand-ins.
run_stand_ins() {
  "$project/run.sh" --nixpkgs "$stand_ins" --option extra-sandbox-paths '/bin/bash=/usr/bin/bash /lib /lib64? /usr' "$@"
}
