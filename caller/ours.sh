# Tells which files of the output folder runs of this project have made: they may be replaced, and a fleet's next run need not make whole images.
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
has_mark() { is_file "$out/$1" && in_time "$patience" head -c 67108864 "$out/$1" | grep -qF "urn:nixos-image:$2:v1"; }

# in_time SECONDS COMMAND...: runs a command that reads a file of $out for so many seconds at most, where there is `timeout` (not on macOS):
# another user may put a pipe in its place after run.sh has looked at it
in_time() {
  if timeout -s KILL 5 true 2> /dev/null; then
    (timeout -s KILL "$@"; exit $?) 2> /dev/null # bash says of the one that it waits for that it was killed
  else
    shift && "$@"
  fi
}

# take_copy NAME FOLDER: copies the file NAME of $out to $state/FOLDER; with -R, cp opens no pipe and follows no link
take_copy() { in_time "$patience" cp -pR "$out/$1" "$state/$2/" 2> /dev/null && is_file "$state/$2/$1" || { rm -rf "${state:?}/$2/$1"; return 1; }; }

# is_small FILE: whether it has at most 8 MiB, as each of ours has that is sent or read line by line
is_small() { is_file "$1" && [ -n "$(find "$1" -prune -size -16385)" ]; }

is_there() { [ -e "$1" ] || [ -L "$1" ]; }

# list_kept: lists the files in $out that must not be replaced, for the orchestrator, which checks names before it builds
list_kept() {
  [ -z "$force" ] || return 0
  for file in "$out"/*; do
    [ -z "$stopped" ] || return 0
    if is_there "$file" && ! is_ours "${file##*/}"; then printf '%s\0' "${file##*/}" || no_room; fi
  done > "$state/kept"
}

# note_earlier: has the bills of materials of the newest images in $out sent, with which reports compare the new images
note_earlier() {
  count=0
  # shellcheck disable=SC2012  # a name with a line end is no file then
  ls -t "$out" 2> /dev/null | while IFS= read -r name && [ $count -lt 20 ]; do
    case $name in *.cdx.json) is_small "$out/$name" && is_ours "$name" ;; *) false ;; esac || continue
    ! take_copy "$name" .earlier || count=$((count + 1))
  done
}

# note_delivered: has the results of whole images in $out sent, with their checksums and signatures
note_delivered() {
  show_life "checking the images in $out" $$
  for file in "$out"/*.sha256; do
    name=${file##*/}
    name=${name%.sha256}
    is_small "$file" && is_small "$out/$name.result.json" && is_ours "$name" && is_ours "$name.result.json" && is_whole "$name" || continue
    for behind in .result.json .sha256 .sha256.sig; do
      ! is_small "$out/$name$behind" || take_copy "$name$behind" .delivered || break # another run is replacing it
    done
    [ -z "$stopped" ] || break
  done
  end_life
  end_if_stopped "the check of the images in $out"
}

# is_whole NAME: whether the image NAME in $out and the files beside it have their checksums
is_whole() {
  seen=
  in_time "$patience" head -c 8388608 "$out/$1.sha256" > "$state/sums" || return
  while read -r sum each; do
    case $each in "$1" | "$1".*) is_file "$out/$each" && [ "$(in_time 7200 cat "$out/$each" | put_sum)" = "$sum" ] || return ;; *) return 1 ;; esac
    [ "$each" != "$1" ] || seen=$sum
  done < "$state/sums"
  is_sum "$seen" && in_time "$patience" grep -qF "\"sha256\": \"$seen\"" "$out/$1.result.json"
}
