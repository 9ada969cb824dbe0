# Places delivered files in the output folder: decides which existing files may be replaced, and in which order files are moved.
# shellcheck shell=sh

# is_ours NAME: whether a run of this project made the file NAME in $out, by its content or by the provenance beside it
is_ours() {
  is_file "$out/$1" || return
  case $1 in
    result.json) has_mark "$1" result; return ;;
    known_hosts) has_mark "$1" known-hosts; return ;;
    build.log) has_mark "$1" log; return ;;
    build-*.log) ! has_mark "$1" log || return 0 ;;
  esac
  for suffix in $beside; do
    case $1 in *?"$suffix") ! has_mark "${1%"$suffix"}.provenance.json" build || return 0 ;; esac
  done
  # An image that was written to since, for example by a virtual machine, has data of the user's.
  has_mark "$1.provenance.json" build && [ -z "$(find "$out/$1" -prune -newer "$out/$1.provenance.json")" ]
}

# has_mark NAME KIND: whether the file NAME in $out has the mark of this project's files of that KIND (build, result, log, known-hosts) in
# its first 64 MiB. Whoever may write to $out may have put a file of any size there.
has_mark() { is_file "$out/$1" && head -c 67108864 "$out/$1" | grep -qF "urn:nixos-image:$2:v1"; }

# is_small FILE: whether it has at most 8 MiB, as each of ours has that is sent or read line by line
is_small() { is_file "$1" && [ -n "$(find "$1" -prune -size -16385)" ]; }

is_there() { [ -e "$1" ] || [ -L "$1" ]; }

# list_kept: lists the files in $out that must not be replaced, for the orchestrator, which checks names before it builds
list_kept() {
  [ -z "$force" ] || return 0
  for file in "$out"/*; do
    if is_there "$file" && ! is_ours "${file##*/}"; then printf '%s\0' "${file##*/}" || no_room; fi
  done > "$state/kept"
}

# note_earlier: has the bills of materials of the newest images in $out sent, with which reports compare the new images
note_earlier() {
  count=0
  # shellcheck disable=SC2012  # a name with a line end is no file then
  ls -t "$out" 2> /dev/null | while IFS= read -r name && [ $count -lt 20 ]; do
    case $name in *.cdx.json) is_small "$out/$name" && is_ours "$name" ;; *) false ;; esac || continue
    ! cp -p "$out/$name" "$state/.earlier/$name" 2> /dev/null || count=$((count + 1))
  done
}

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
  each_file may_put || return
  # It lists the images of an earlier run, until this one has all.
  [ "${manifest##*/}" = .complete ] || ! is_ours result.json || rm -f "$out/result.json" || return 8
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
  for suffix in $beside; do rm -f "$out/$1$suffix" || return; done
}

put_file() { [ "$2" = there ] || is_proof "$1" || put "$1"; }
put_proof() { [ "$2" = there ] || ! is_proof "$1" || put "$1"; }
is_proof() { case $1 in *.sha256 | *.sha256.sig | result.json) ;; *) false ;; esac; }

# put NAME: moves the file to $out. A free name is taken by a hard link, which fails if a file appeared meanwhile.
put() {
  ! grep -qxF -e "$1" "$state/left" || return 0
  if is_there "$out/$1"; then
    mv -f "$folder/$1" "$out/$1"
  elif ! ln "$folder/$1" "$out/$1" 2> "$state/tar"; then # FAT and exFAT have no hard links
    ! is_there "$out/$1" || { refuse "$out/$1 has just been made by another program" "run it again"; return; }
    mv "$folder/$1" "$out/$1"
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
