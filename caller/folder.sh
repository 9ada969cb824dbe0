# Lists what is sent of a folder that is no git repository, and finds the output folder in a folder that is sent.
# shellcheck shell=sh

# list_folder: prints $tree, or, if the output folder is in it, everything in $tree but that. Each build would send the images of
# the last one, and a flake that is no repository would have another hash each time.
list_folder() {
  rest=$(images_below "$(physical "$tree")") || { printf './%s/.\0' "${tree#/}"; return; }
  level=${tree#/}
  while :; do
    for entry in "/$level"/* "/$level"/.[!.]* "/$level"/..?*; do
      [ "${entry##*/}" = "${rest%%/*}" ] || { [ ! -e "$entry" ] && [ ! -L "$entry" ]; } || printf './%s\0' "${entry#/}" || return
    done
    case $rest in */*) level=$level/${rest%%/*} rest=${rest#*/} ;; *) break ;; esac
  done
}

# images_below FOLDER: prints the path of the output folder relative to FOLDER, a real path, if it lies in it
images_below() {
  [ -n "$images" ] && [ -d "$images" ] || return
  folder=$(physical "$images")
  case $folder in "$1"/*) printf '%s\n' "${folder#"$1"/}" ;; *) return 1 ;; esac
}
