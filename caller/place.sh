# Places delivered files in the output folder: which names are free, and in which order files are moved.
# shellcheck shell=sh

# put_images: places the files of $folder, under the lock of $out
put_images() {
  lock_out || return
  put_all
  put=$?
  unlock
  return $put
}

# put_all: places nothing if one name is taken. Safe against power failures: files are on the disk before they get their names; the
# old image's checksums are gone by then; the new checksums are placed when everything else is.
put_all() {
  : > "$state/left"
  : > "$state/replaced"
  : > "$state/cleared"
  each_file may_put || return
  # It lists the images of an earlier run, until this one has all.
  [ "${manifest##*/}" = .complete ] || ! is_ours result.json || clear result.json || return 8
  each_file clear_beside && to_disk "$out" || return 8
  each_file put_file && to_disk "$out" || return 8
  each_file put_proof && to_disk "$out" || return 8
  each_file tell_image
}

# each_file FUNCTION: calls FUNCTION NAME KIND for each file of the manifest, until it fails
each_file() {
  while read -r sum kind name && [ "$sum" != end ]; do "$1" "$name" "$kind" || return; done < "$manifest"
}

# may_put NAME KIND: whether NAME is free or ours, and for an image all names beside it. A provenance comes with its image only: beside
# a file of the user's, it would let the next run take that for ours.
may_put() {
  [ "$2" != there ] || return 0
  is_free "$1" || return
  ! is_there "$out/$1" || printf '%s\n' "$1" >> "$state/replaced" || return
  case $1 in
    *.provenance.json) sed 's/^[^ ]* [^ ]* //' "$manifest" | grep -qxF -e "${1%.provenance.json}" \
      || { refuse "$1 came without its image"; return; } ;;
  esac
  [ "$2" = image ] || return 0
  for behind in $beside; do is_free "$1$behind" || return; done
}

is_free() {
  is_there "$out/$1" || return 0
  [ ! -d "$out/$1" ] || { refuse "$out/$1 is a folder"; return; }
  [ -z "$force" ] && ! is_ours "$1" || return 0
  case $1 in
    result.json | build.log | known_hosts)
      say "$out/$1 was not made by this project: it is left unchanged"
      printf '%s\n' "$1" >> "$state/left"
      ;;
    *)
      refuse "$out/$1 exists and was not made by this project, or was changed since" \
        "use --force to replace it, or -o for another folder"
      ;;
  esac
}

clear_beside() {
  [ "$2" = image ] || return 0
  for suffix in $beside; do clear "$1$suffix" || return; done
}

# clear NAME: removes the file from $out; its name is free then
clear() { rm -f "$out/$1" && printf '%s\n' "$1" >> "$state/cleared"; }

put_file() { [ "$2" = there ] || is_proof "$1" || put "$1"; }
put_proof() { [ "$2" = there ] || ! is_proof "$1" || put "$1"; }
is_proof() { case $1 in *.sha256 | *.sha256.sig | result.json) ;; *) false ;; esac; }

# put NAME: moves the file to $out. Only what may_put has seen is replaced: a free name is taken by a hard link, which fails if a file
# appeared meanwhile. mv and ln get the folder, not the name in it: that may be a link to another folder by now, which they would follow.
put() {
  ! grep -qxF -e "$1" "$state/left" || return 0
  if grep -qxF -e "$1" "$state/replaced" && ! grep -qxF -e "$1" "$state/cleared"; then
    mv -f "$folder/$1" "$out/"
  elif ! ln "$folder/$1" "$out/" 2> "$state/tar"; then # FAT and exFAT have no hard links
    ! is_there "$out/$1" || { refuse "$out/$1 has just been made by another program" "run it again"; return; }
    mv "$folder/$1" "$out/"
  fi
}

# tell_image NAME KIND: prints the path of an image, once. The last manifest lists all images of the run, the first one first.
tell_image() {
  case $2 in
    image) ;;
    there)
      is_file "$out/$1" || return 0
      [ -s "$state/first" ] || printf '%s\n' "$out/$1" > "$state/first"
      ! grep -qxF -e "$out/$1" "$state/image" 2> /dev/null || return 0
      ;;
    *) return 0 ;;
  esac
  # The cursor is at the end of the live view's line, if there is one.
  [ "$columns" = 0 ] || [ ! -t 1 ] || printf '\r\033[2K'
  printf '%s\n' "$out/$1" | tee -a "$state/image"
}
