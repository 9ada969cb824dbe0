# Lists what is sent of a folder: of a git repository what git lists, of another one all, and of neither what runs have made.
# shellcheck shell=sh

# list_files OPTION: adds to $state/found those files below $tree that git lists, but no images that git does not track; an error names
# OPTION
list_files() {
  set -- "$1" ls-files -z --cached --others --exclude-standard
  if rest=$(images_below "$above"); then
    if has_sources; then
      for entry in "$images"/* "$images"/.nixos-image*; do
        ! is_of_run "${entry##*/}" || set -- "$@" "--exclude=$(pattern "/$rest${entry##*/}")"
      done
    else
      set -- "$@" "--exclude=$(pattern "/$rest")"
    fi
  fi
  about=$1
  shift
  git_says listed "$@" || git_fails "$about"
  xargs -0 sh -c "$only_files" sh "./${tree#/}" "$(physical "$tree")" < "$state/listed" >> "$state/found" || no_room
}

# list_folder: prints $tree, or, if the output folder is in it, everything in $tree but the images. Each build would send the images of
# the last one, and a flake that is no repository would have another hash each time.
list_folder() {
  rest=$(images_below "$(physical "$tree")") || { printf './%s/.\0' "${tree#/}"; return; }
  level=${tree#/}
  while [ -n "$rest" ]; do
    list_entries "/$level" "${rest%%/*}" || return
    level=$level/${rest%%/*} rest=${rest#*/}
  done
  ! has_sources || list_entries "/$level"
}

# list_entries FOLDER [NAME]: prints what is in FOLDER, but not NAME; without a NAME, not what runs have made
list_entries() {
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if [ ! -e "$entry" ] && [ ! -L "$entry" ]; then continue; fi
    if [ $# = 2 ]; then [ "${entry##*/}" != "$2" ] || continue; elif is_of_run "${entry##*/}"; then continue; fi
    printf './%s\0' "${entry#/}" || return
  done
}

# images_below FOLDER: prints the path of the output folder relative to FOLDER, a real path, with a slash at its end, if it lies in it;
# nothing for FOLDER itself
images_below() {
  [ -n "$images" ] && [ -d "$images" ] || return
  folder=$(physical "$images")/
  case $folder in "${1%/}"/*) printf '%s\n' "${folder#"${1%/}"/}" ;; *) return 1 ;; esac
}

# has_sources: whether the output folder has $source_folder, which is wanted of $tree: then not all in it are images
has_sources() { case $(physical "$source_folder")/ in "$(physical "$images")"/*) ;; *) return 1 ;; esac }

# is_of_run NAME: whether a run has made the file NAME in the output folder, or begun to. A machine may have written to it since.
is_of_run() {
  case $1 in .nixos-image*) return 0 ;; esac
  (out=$images; is_ours "$1" || has_mark "$1.provenance.json" build)
}

# pattern PATH: prints git's pattern of exactly this path
pattern() { printf '%s\n' "$1" | sed 's/[][*?\\]/\\&/g'; }

# refuse_unreadable OPTION: ends run.sh if something in $state/found cannot be read: an evaluation must not see a part of a folder. find
# tells quickly what is the caller's own and readable; of the rest a shell tells.
refuse_unreadable() {
  export cannot_read
  # shellcheck disable=SC2016  # another shell's program
  found=$( (cd / && xargs -0 sh -c 'find "$@" ! -type l "(" ! -user "$0" -o ! -perm -400 ")" -exec sh -c "$cannot_read" sh {} +' "$(id -u)") \
    < "$state/found" 2> /dev/null | sed "s,/\./,/,; q")
  [ -z "$found" ] || die 2 "$1: $found cannot be read, but the whole folder would be sent" \
    "let this user read it, move it out of the folder, or make the folder a git repository that ignores it"
}

# prints those of its arguments that this user cannot read
# shellcheck disable=SC2016  # another shell's program
cannot_read='for file; do
  if [ -r "$file" ]; then [ ! -d "$file" ] || [ -x "$file" ] || printf "%s\n" "${file#.}"; else printf "%s\n" "${file#.}"; fi
done'
