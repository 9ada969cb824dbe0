# What is taken from the orchestrator: files, believed only with their list, then given their names.
# shellcheck shell=sh

out_dir() {
  out=$1
  mkdir -p "$out" 2> /dev/null && [ -d "$out" ] && [ -w "$out" ] || die 2 "$out cannot be written to" "choose another with -o"
  out_kib=$(df -Pk "$out" | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p') # devices' names may have blanks
  # Parts of runs whose run.sh is gone: they are named after the run and the process. Another user's process, or another
  # machine's, cannot be seen: then neither its orchestrator may run nor the part be young.
  for part in "$out"/.nixos-image-*.part; do
    [ -d "$part" ] || continue
    pid=${part##*-}
    kill -0 "${pid%.part}" 2> /dev/null && continue
    other=${part##*/.}
    other=$(docker ps -q --filter "name=^${other%-*}\$") && [ -z "$other" ] || continue
    [ -z "$(find "$part" -prune -mmin +10)" ] || rm -rf "$part"
  done
}

# The checkout's locks are what is handed over; that of the flake lies above the others.
out_locks() {
  out_dir "$root/locks"
  above=flake.lock
}

# Takes the orchestrator's tar stream; believes it only with its manifest, then gives the files their names.
unpack() {
  [ -n "$out" ] || { cat > /dev/null; return 0; } # a verb that makes no files
  part=$out/.nixos-image-$run-$$.part
  mkdir "$part" || { cat > /dev/null; return 8; }
  (cd "$part" && tar -xof -) 2> "$state/tar" || cat > /dev/null
  take "$part"
  taken=$?
  rm -rf "$part"
  return $taken
}

# take FOLDER: what the list in FOLDER names, to $out. Power may fail at any time: a file has its name when it is on the disk,
# and the last name is when take ends.
take() {
  folder=$1
  # Without a whole manifest nothing was handed over; where that is no wonder, the orchestrator's exit code says so.
  is_file "$folder/.complete" && [ "$(tail -n 1 "$folder/.complete")" = end ] || return 8
  set --
  while read -r sum kind name && [ "$sum" != end ]; do
    # A link would be followed by whoever comes next, and into a folder mv would put the file.
    case $name in
      '' | .* | -* | */* | *[[:cntrl:]]*) say "error: a file has a name that none may have"; return 8 ;;
    esac
    is_file "$folder/$name" || { say "error: $name is no file"; return 8; }
    place "$name"
    [ ! -d "$into/$name" ] || { say "error: $into/$name is a folder"; return 8; }
    [ -z "$above" ] || [ -f "$into/$name" ] || { say "error: $name is no lock of this checkout"; return 8; }
    [ "$(checksum "$folder/$name")" = "$sum" ] || { say "error: $name did not arrive as it was sent"; return 8; }
    set -- "$@" "$folder/$name"
  done < "$folder/.complete"
  [ $# = 0 ] || to_disk "$@" || return 8
  while read -r sum kind name && [ "$sum" != end ]; do
    place "$name"
    mv -f "$folder/$name" "$into/$name" || return 8
    if [ "$kind" = image ]; then
      printf '%s\n' "$out/$name"
      [ -s "$state/image" ] || printf '%s\n' "$out/$name" > "$state/image"
    fi
  done < "$folder/.complete"
  [ $# = 0 ] || to_disk "$out" ${above:+"$out/.."} || return 8
}

# place NAME: sets $into to the folder where that file goes
place() {
  into=$out
  [ "$1" != "$above" ] || into=$out/..
}

# to_disk PATH...: until these files and folders are on the disk. Where sync knows no paths, until all is.
to_disk() {
  case $(sync --version 2> /dev/null) in
    *coreutils*) sync "$@" ;;
    *) sync ;;
  esac 2> "$state/tar"
}

is_file() { [ -f "$1" ] && [ ! -L "$1" ]; }
