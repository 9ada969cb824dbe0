# Receives files from the orchestrator, verifies them with the manifest, and gives them their final names.
# shellcheck shell=sh

out_dir() {
  out=$1
  mkdir -p "$out" 2> /dev/null && [ -d "$out" ] && [ -w "$out" ] || die 2 "$out cannot be written to" "choose another folder with -o"
  out_kib=$(df -Pk "$out" | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p') # device names may contain spaces
  # Remove partial deliveries of dead runs; they are named after run and process. A process of another user or machine is
  # invisible, so the run's orchestrator must not run either, and the folder must be older than 10 minutes.
  for part in "$out"/.nixos-image-*.part; do
    [ -d "$part" ] || continue
    pid=${part##*-}
    kill -0 "${pid%.part}" 2> /dev/null && continue
    other=${part##*/.}
    ask ps -q --filter "name=^${other%-*}\$" && [ ! -s "$state/said" ] || continue
    [ -z "$(find "$part" -prune -mmin +10)" ] || rm -rf "$part"
  done
}

# out_locks: the delivered files are the checkout's locks; flake.lock lies above the others.
out_locks() {
  out_dir "$root/locks"
  above=flake.lock
}

# unpack: unpacks the orchestrator's tar stream from stdin to a temporary folder and takes over its files.
unpack() {
  [ -n "$out" ] || { cat > /dev/null; return 0; } # the verb delivers no files
  part=$out/.nixos-image-$run-$$.part
  mkdir "$part" || { cat > /dev/null; return 8; }
  (cd "$part" && tar -xof -) 2> "$state/tar" || cat > /dev/null
  take "$part"
  taken=$?
  rm -rf "$part"
  return $taken
}

# take FOLDER: verifies the files in FOLDER with its manifest and moves them to $out. Safe against power failures: a file gets its
# final name only when it is on the disk, and all names are on the disk when take ends.
take() {
  folder=$1
  # Without a complete manifest nothing was delivered; the orchestrator's exit code reports the cause.
  is_file "$folder/.complete" && [ "$(tail -n 1 "$folder/.complete")" = end ] || return 8
  set --
  while read -r sum kind name && [ "$sum" != end ]; do
    # Refuse links, which later readers would follow, and folders, into which mv would move the file.
    case $name in
      '' | .* | -* | */* | *[[:cntrl:]]*) say "error: a delivered file has a name that is not allowed"; return 8 ;;
    esac
    is_file "$folder/$name" || { say "error: $name is not a file"; return 8; }
    place "$name"
    [ ! -d "$into/$name" ] || { say "error: $into/$name is a folder"; return 8; }
    [ -z "$above" ] || [ -f "$into/$name" ] || { say "error: $name is not a lock of this checkout"; return 8; }
    [ "$(checksum "$folder/$name")" = "$sum" ] || { say "error: $name was damaged in transit: wrong checksum"; return 8; }
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

# place NAME: sets $into to the target folder of the file
place() {
  into=$out
  [ "$1" != "$above" ] || into=$out/..
}

# to_disk PATH...: waits until these files and folders are on the disk; if sync accepts no paths, until everything is.
to_disk() {
  case $(sync --version 2> /dev/null) in
    *coreutils*) sync "$@" ;;
    *) sync ;;
  esac 2> "$state/tar"
}

is_file() { [ -f "$1" ] && [ ! -L "$1" ]; }
