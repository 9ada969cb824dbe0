# Receives files from the orchestrator, verifies them with the manifest, and gives them their final names.
# shellcheck shell=sh

out_dir() {
  out=$1
  mkdir -p "$out" 2> /dev/null && [ -d "$out" ] && [ -w "$out" ] || die 2 "$out cannot be written to" "choose another folder with -o"
  ! is_elsewhere "$out" || say "delivering to $real, to which $out leads"
  out_kib=$(df -Pk "$out" | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p') # device names may contain spaces
  forget_parts
}

# out_locks: the delivered files are the checkout's locks; flake.lock lies above the others.
out_locks() {
  out_dir "$root/locks"
  over=flake.lock
}

# unpack: unpacks the orchestrator's tar stream from stdin to a temporary folder and takes over its files, as soon as a manifest has
# come. They get the time of this computer: whether an image was written to later is seen by it (is_ours).
unpack() {
  [ -z "$question" ] || answer_question
  [ -n "$out" ] || { cat > /dev/null; return 0; } # the verb delivers no files
  part=$out/.nixos-image-$run-$$.part
  # Whoever may write to $out may put another folder in the place of this one at any time: this shell stays in it, whatever has its name.
  # The stream may open the inner folder to other users: a member may be the folder itself. The outer folder stays closed.
  mkdir -m 700 "$part" && cd -P "$part" && mkdir -m 700 ./files && is_own && hold || { cat > /dev/null; return 8; }
  # Without the flag, bsdtar gives files of root's the rights that the stream has for other users, capabilities, and flags.
  exec 4<&0
  { (cd ./files && tar -xomf - --no-same-permissions) 2> "$state/untar" || cat > /dev/null; : > ./end; } <&4 &
  unpacker=$!
  taken=0 number=1
  until [ -e ./end ]; do
    if is_manifest "./files/.complete-$number"; then take_next; else sleep 0.2 2> /dev/null || sleep 1; fi
    kill -0 $unpacker 2> /dev/null || break
  done
  wait $unpacker
  while [ $taken = 0 ] && is_manifest "./files/.complete-$number"; do take_next; done
  [ $taken != 0 ] || take ./files .complete || taken=$?
  { rm -rf ./files ./end ./holder && rmdir "$part"; } 2> /dev/null # fails if another folder has its name
  return $taken
}

# is_own: whether the working directory is the one that mkdir has just made here: empty but for `files`, of the owner and with the rights
# of that one. They need not be this user's and 700: FAT has none.
is_own() {
  # shellcheck disable=SC2012  # rights and owner of two known names
  [ "$(ls -A)" = files ] && [ "$(ls -nd . ./files | awk '{ print $1, $3 }' | uniq | wc -l)" -eq 1 ] \
    || refuse "another user has replaced $part" "choose an output folder that no other user may write to (-o)"
}

# take_next: takes over the files of the next manifest, if those before were taken. They are set aside first, where tar, which still
# unpacks, writes nothing.
take_next() {
  aside=./$number
  mkdir "$aside" && mv "./files/.complete-$number" "$aside/" || taken=8
  while [ $taken = 0 ] && read -r sum kind name && [ "$sum" != end ]; do
    case $name in '' | .* | -* | */*) ;; *) ! is_there "./files/$name" || mv "./files/$name" "$aside/" || taken=8 ;; esac
  done < "$aside/.complete-$number"
  [ $taken != 0 ] || take "$aside" ".complete-$number" || taken=$?
  rm -rf "$aside"
  number=$((number + 1))
}

# is_manifest FILE: whether FILE is a manifest that has come as a whole
is_manifest() { is_file "$1" && [ "$(tail -n 1 "$1")" = end ]; }

# take FOLDER MANIFEST: verifies the files in FOLDER that MANIFEST lists, writes them to the disk and moves them to $out
take() {
  folder=$1 manifest=$1/$2
  # Without a complete manifest nothing was delivered; the orchestrator's exit code reports the cause.
  is_manifest "$manifest" || return 8
  set --
  while read -r sum kind name && [ "$sum" != end ]; do
    case $name in
      '' | .* | -* | */*) false ;;
      *) is_plain "$name" ;;
    esac || { refuse "a delivered file has a name that is not allowed"; return; }
    [ "$kind" != there ] || continue
    # Refuse links, which later readers would follow, and folders, into which mv would move the file. By a hard link, which busybox'
    # tar makes to any file of the caller's, whoever writes to the image would write to that file.
    is_file "$folder/$name" && [ -n "$(find "$folder/$name" -links 1)" ] || { refuse "$name is not a file of its own"; return; }
    [ "$(checksum "$folder/$name")" = "$sum" ] || { refuse "$name was damaged in transit: wrong checksum"; return; }
    set -- "$@" "$folder/$name"
  done < "$manifest"
  # root's tar keeps each mode: no other user may write to a file, or run it as root.
  [ $# = 0 ] || chmod ug-s,go-w,-t "$@" && to_disk "$@" || return 8
  if [ -n "$over" ]; then put_locks; else put_images; fi
}

# refuse REASON [HINT]: keeps the error message for the end of the run
refuse() {
  printf '%s\n' "$1" > "$state/refused"
  printf %s "${2-}" > "$state/way_out"
  return 8
}

# put_locks: replaces locks of this checkout by the files in $folder
put_locks() {
  while read -r sum kind name && [ "$sum" != end ]; do
    lock_folder "$name"
    is_file "$into/$name" || { refuse "$name is not a lock of this checkout"; return; }
  done < "$manifest"
  while read -r sum kind name && [ "$sum" != end ]; do
    lock_folder "$name"
    mv -f "$folder/$name" "$into/" || return 8
  done < "$manifest"
  to_disk "$out" "$out/.." || return 8
}

# lock_folder NAME: sets $into to the target folder of the lock
lock_folder() {
  into=$out
  [ "$1" != "$over" ] || into=$out/..
}

# to_disk PATH...: waits until these files and folders are on the disk; if sync accepts no paths, until everything is.
to_disk() {
  case $(sync --version 2> /dev/null) in
    *coreutils*) sync "$@" ;;
    *) sync ;;
  esac 2> "$state/tar"
}

is_file() { [ -f "$1" ] && [ ! -L "$1" ]; }
