# Sends the caller's files to the orchestrator, under their paths on the caller's host.
# shellcheck shell=sh

send() {
  [ -e "$2" ] || is_missing "$1" "$2"
  [ -f "$2" ] || die 2 "$1: $2 is not a file" "name a file, no folder"
  [ -r "$2" ] || die 2 "$1: $2 cannot be read" "ls -l shows who may read it"
  refuse_private "$@"
  send_path "$2"
  note_secret "$@"
}

# send_path PATH: adds a path to the list of files to send. Paths end with a zero byte and become arguments of tar, because tars
# differ in reading file lists.
send_path() {
  printf './%s\0' "${1#/}" >> "$state/send" || no_room
}

# no_link FILE: ends run.sh if what lies beside an image is a link. Runs make none: whoever has made it may want a file sent that nobody
# has named.
no_link() { [ ! -L "$1" ] || die 2 "$1 is a link, which no run makes" "put the file itself beside the image"; }

# send_result FILE: sends a file that a run has put beside an image, if it exists
send_result() {
  no_link "$1"
  if [ -f "$1" ] && [ -r "$1" ]; then send_path "$1"; fi
}

send_keys() {
  for key in "${HOME:-/}"/.ssh/*.pub; do
    if [ -f "$key" ] && [ -r "$key" ]; then send_path "$key"; fi
  done
}

# send_checkout: sends the project's own files, for its test suite.
send_checkout() {
  # shellcheck disable=SC2016,SC2046 # another shell's program; names without spaces
  (
    cd "$root" || exit
    find $(parts) $(other_parts) \( -name __pycache__ -o -path ./tests/nixpkgs \) -prune -o \( -type f -o -type l \) \
      -exec sh -c 'root=$1; shift; for file; do printf "./%s/%s\0" "${root#/}" "${file#./}" || exit; done' sh "$root" {} +
  ) >> "$state/whole" || no_room
}

# send_modules OPTION PATH: sends PATH as send_tree does, with its repository's submodules.
send_modules() {
  modules=1
  send_tree "$@"
  modules=
}

# send_tree OPTION PATH: sends PATH with its surroundings: its git repository without ignored files, else its folder, and never the
# output folder in it. Unless it is the configuration, one of its modules or the flake, only the folder itself is sent, not the
# whole repository. OPTION may be a variable, too.
send_tree() {
  [ -e "$2" ] || is_missing "$1" "$2"
  [ -f "$2" ] || [ -d "$2" ] || die 2 "$1: $2 is neither a file nor a folder" "name one of both"
  tree=$2
  [ -d "$tree" ] || tree=$(dirname -- "$2")
  source_folder=$tree
  library=${tree%/*}/lib.nix # which formats of nixos-generators import
  if [ "$1" = --format-path ] && [ -f "$library" ]; then
    # Nobody has named it, and what a link leads to would be sent in its place.
    [ ! -L "$library" ] || die 2 "$1: $library, which a format may import, is a link" "put the file itself there"
    send_path "$library"
  fi
  : > "$state/found"
  if in_repository "$1" "$tree"; then
    case $1 in --configuration | "-I nixos-config" | NIXOS_CONFIG | --flake | --appliance | --with) find_top "$1" "$2" ;; esac
    not_home "$1"
    list_files "$1"
    if names_flake "$@"; then
      find_commit
      with=0
      if [ -n "$modules" ] || wants_modules; then with=1; list_modules "$1"; fi
      tell_commit $with
    fi
    [ -s "$state/found" ] || die 2 "$1: git ignores all files of $tree" "git add the files to build"
  else
    not_home "$1"
    not_above_home "$1"
    list_folder > "$state/found" || no_room
  fi
  refuse_unreadable "$1"
  # By their length, where du tells it: tar sends the holes of sparse files, too.
  for length in --apparent-size -A -b ''; do ! du $length -sk /dev/null > /dev/null 2>&1 || break; done
  # shellcheck disable=SC2086  # a flag, or none
  kib=$( (cd / && xargs -0 du $length -sk) < "$state/found" 2> /dev/null | awk '/^[0-9]+\t/ { kib += $1 } END { print kib + 0 }')
  [ "$kib" -le 2097152 ] || die 2 "$1: $tree has $((kib / 1048576)) GiB, which would all be sent" \
    "move it to a separate folder, or into a git repository that ignores the rest"
  tr '\0' '\n' < "$state/trees" | grep -qxF -e "$tree" || {
    printf '%s\0' "$tree" >> "$state/trees" || no_room
    if [ "$kib" -ge "$large" ]; then
      note_large
    else
      say "sending $tree: $(mebibytes)"
      cat "$state/found" >> "$state/whole" || no_room
    fi
  }
}

physical() { (cd -P "$1" && pwd -P); }

# find_top OPTION PATH: moves $tree up to its repository's top, in the form of the path that the caller has used; an error names
# OPTION and PATH.
find_top() {
  while [ "$(physical "$tree")" != "$above" ]; do
    [ "$tree" != / ] || die 2 "$1: $2 leads into its repository through a link" "use its real path"
    tree=$(dirname -- "$tree")
  done
}

# Filters git's file names, relative to the folder $1 with the real path $2: keeps existing files and links that are not below a
# link in place of a folder, and drops nested repositories.
# shellcheck disable=SC2016  # another shell's program
only_files='
  name=$1 real=$2 last= good=1
  shift 2
  for file; do
    case $file in */*) folder=/${file%/*} ;; *) folder= ;; esac
    if [ "$folder" != "$last" ]; then
      last=$folder good=
      cd -P "$real$folder" 2> /dev/null && [ "$PWD" = "$real$folder" ] && good=1
    fi
    [ -n "$good" ] || continue
    if [ -L "$real/$file" ] || [ -f "$real/$file" ]; then printf "%s\0" "$name/$file" || exit; fi
  done'

# find_tar: sets $tar_holes and $tar_sends, the flags with which tar packs files unchanged
find_tar() {
  tar_holes=-S
  case $(tar --version 2>&1) in
    *busybox* | *BusyBox*) tar_holes= ;;
    *GNU*) tar_sends=--no-unquote ;; # a backslash in a name is no escape
  esac
}

# pack: writes the caller's files as a tar stream, under their paths. Links within sent folders are kept. With them go the list of
# files in the output folder that no run made, earlier images' bills of materials, the results of whole images, and what is known of a flake's commit.
# The list of folders comes last and shows that everything was sent.
pack() {
  # xargs may run tar several times: the receiver accepts concatenated archives.
  # shellcheck disable=SC2086  # flags, or none
  [ ! -s "$state/send" ] || xargs -0 tar -chf - $tar_holes $tar_sends -C / < "$state/send" || return
  # shellcheck disable=SC2086
  [ ! -s "$state/whole" ] || xargs -0 tar -cf - $tar_sends -C / < "$state/whole" || return
  for list in kept commits mounted trees; do cp "$state/$list" "$state/.$list" || return; done
  tar -cf - -C "$state" .earlier .delivered .kept .commits .mounted .trees
}
