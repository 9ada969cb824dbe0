# Keeps secrets out of the folders that are sent: what was sent, an evaluation may read.
# shellcheck shell=sh

# note_secret OPTION PATH: notes that no evaluation may read the file PATH, which was given to OPTION
note_secret() {
  case $1 in
    --appliance | --builders | --inject | --stamp | --identity-seed | --wifi-password-file | --secure-boot-key | --nix-conf | --sign | --sign-key | --push-credentials)
      printf '%s\t%s\n' "$1" "$2" >> "$state/secrets" || no_room
      ;;
  esac
}

# refuse_private OPTION PATH: dies if the file PATH, which was given as one of public keys, is a private key: it must not leave this computer
refuse_private() {
  about=$1 wanted=$2
  case $1 in
    --ssh-key | --authorized-key | --key | --public-key | --allowed-signers) ;;
    --appliance) in_appliance ' keys ' || return 0; about=$appliance ;;
    *) return 0 ;;
  esac
  LC_ALL=C grep -q -e '-----BEGIN [A-Z ]*PRIVATE KEY-----' -e '^PuTTY-User-Key-File' -- "$2" || return 0
  if [ -f "$2.pub" ]; then remedy="name $2.pub"; else remedy="ssh-keygen -y -f $(shell_word "$2") > $(shell_word "$2.pub") makes the public key: name that file"; fi
  die 2 "$about: $2 is a private key, which does not leave this computer" "$remedy"
}

# find_moved SECRET: sets $moved to the file that the orchestrator takes away: the one that a link leads to
find_moved() {
  follow "$1"
  absolute "$real"
  moved=$absolute
}

# refuse_aliases: dies if a secret is sent twice, under its own name and, with a folder, under another one: a hard link, or the same
# file by a link to a folder above. The orchestrator moves the secret away by its own name (orchestrator/ask/uploads.py).
refuse_aliases() {
  cat "$state/whole" > "$state/all" && if [ "$larges" != 0 ]; then cat "$state"/large.*.list >> "$state/all"; fi || no_room
  [ -s "$state/all" ] && [ -s "$state/secrets" ] || return 0
  # All that is sent is looked through once, for whatever has the inode of any secret.
  inodes=$(cut -f 2- "$state/secrets" | tr '\n' '\0' | xargs -0 ls -diL | awk '{ print "-o -inum", $1 }')
  # shellcheck disable=SC2016  # another shell's program
  (cd / && inodes=$inodes xargs -0 sh -c 'exec find "$@" -type f "(" -name "" $inodes ")" -print0' sh) < "$state/all" | cat > "$state/alike" || no_room
  [ -s "$state/alike" ] || return 0
  while IFS="$tab" read -r option secret; do
    [ -z "$stopped" ] || return
    find_moved "$secret"
    # A name may have line ends: they become \001, which no path of the caller's has.
    # shellcheck disable=SC2012,SC2016  # an inode's number; another shell's program
    (cd / && secret=$secret xargs -0 sh -c 'exec find "$@" -type f -inum "$0" -exec sh -c "cmp -s \"\$0\" \"\$secret\"" {} \; -print0' \
      "$(ls -diL "$secret" | awk '{ print $1; exit }')") < "$state/alike" | tr '\n\0' '\001\n' > "$state/same" || no_room
    while IFS= read -r file; do
      absolute "/$file"
      [ "$absolute" = "$moved" ] || die 2 "$option: $secret is also $absolute, which an evaluation could read" \
        "move it out of the folder that is sent"
    done < "$state/same"
  done < "$state/secrets"
}
