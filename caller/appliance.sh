# Finds the appliance.toml that describes images, and tests whether it names a path.
# shellcheck shell=sh

# find_appliance ARGUMENTS...: sets $appliance to the path of the appliance.toml that run.sh's ARGUMENTS name, or else, except for a kit,
# of the one in the working directory, and NIXOS_IMAGE_APPLIANCE_TEXT to its content: the orchestrator reads it before it gives orders.
find_appliance() {
  names=--appliance
  case ${1:-build} in -* | build | demo | eject) ;; kit) names=--with ;; doctor) [ -n "$bundle" ] || return 0 ;; *) return 0 ;; esac
  file=appliance.toml follows='' asked=
  for word; do
    if [ -z "$follows" ]; then
      case $word in "$names") follows=1; continue ;; "$names"=*) word=${word#*=} ;; *) continue ;; esac
    fi
    follows=
    case $names:$word in --with:*'#'*) ;; --appliance:* | --with:*.toml) file=$word asked=1 ;; esac # a # is a flake's
  done
  [ -n "$asked" ] || [ $names != --with ] || return 0
  if [ -z "$asked" ]; then
    [ -e "$file" ] || [ -L "$file" ] || { tell_above "$@"; return 0; }
    ! given -c "$@" && ! given --configuration "$@" && ! given --flake "$@" || return 0
  fi
  [ -n "$file" ] || return 0 # the orchestrator tells that a path is empty
  [ -e "$file" ] || die 2 "$names: $file does not exist" "./run.sh init writes an appliance.toml"
  [ -f "$file" ] && [ -r "$file" ] || die 2 "$names: $file is not a file that can be read" "ls -l shows what it is, and who may read it"
  [ "$(wc -c < "$file")" -le 100000 ] || die 2 "$names: $file is larger than 100 kB" "move parts of it into modules"
  # A variable has no NUL: the shell would leave it out.
  # shellcheck disable=SC2094  # nothing is written
  [ "$(LC_ALL=C tr -d "\000" < "$file" | wc -c)" -eq "$(wc -c < "$file")" ] || die 2 "$names: $file has the character NUL" "save it as UTF-8"
  absolute "$file"
  appliance=$absolute
  ! is_outside "$appliance" || say "reading $real, to which $appliance leads"
  NIXOS_IMAGE_APPLIANCE_TEXT=$(cat "$file" && echo .) # the dot keeps line ends at the end
  NIXOS_IMAGE_APPLIANCE_TEXT=${NIXOS_IMAGE_APPLIANCE_TEXT%.}
  export NIXOS_IMAGE_APPLIANCE_TEXT
}

# tell_above ARGUMENTS...: says that run.sh, called with no ARGUMENTS that say what is built, does not take the appliance.toml of a
# folder above
tell_above() {
  case ${1:-build} in -* | build) ;; *) return 0 ;; esac
  ! given -c "$@" && ! given --configuration "$@" && ! given --flake "$@" || return 0
  higher=$PWD
  while [ -n "$higher" ]; do
    higher=${higher%/*}
    [ ! -f "$higher/$file" ] || { say "there is no $file in this folder; to build $higher/$file, call run.sh there"; return; }
  done
}

# in_appliance KEYS: whether the appliance.toml gives the path $wanted to one of KEYS, words with a blank on each side. The
# orchestrator may ask for no other file of the caller's: the engine may be anybody's.
in_appliance() {
  [ -n "$appliance" ] || return
  [ -e "$state/paths$1" ] || each_named "$1" > "$state/paths$1" || no_room
  LC_ALL=C grep -qxF -e "$wanted" "$state/paths$1"
}

# each_named KEYS: prints the absolute paths that the appliance.toml gives to KEYS
each_named() {
  printf '%s\n' "$NIXOS_IMAGE_APPLIANCE_TEXT" | named_paths "$1" | while IFS= read -r path_named; do
    case $path_named in
      [~]/*) path_named=${HOME:-/}/${path_named#??} ;;
      /*) ;;
      *) path_named=${appliance%/*}/$path_named ;;
    esac
    absolute "$path_named"
    printf '%s\n' "$absolute" || exit
  done
}

# named_paths KEYS: prints each string on one line that the TOML on stdin gives to one of KEYS. A line may be as long as the file: tokens
# are looked for in a short part of it, and in all that is left only where that does not tell.
named_paths() {
  LC_ALL=C awk -v keys="$1" -v quote="'" '
    function tell() { # the string that was read last is no key: it is a value
      if (is_string && index(keys, " " key " ")) {
        gsub(/\\"/, "\"", last)
        gsub(/\\\\/, "\\", last)
        print last
      }
      is_string = 0
    }
    BEGIN {
      string = "\"([^\"\\\\]|\\\\.)*\"|" quote "[^" quote "]*" quote
      long = "\"\"\"|" quote quote quote
      token = "[A-Za-z0-9_-]+|=|" string "|#.*|" long
      size = 200
    }
    {
      at = 1
      if (inside != "") { # a text of several lines names no file
        if (! (end = index($0, inside))) next
        at = end + 3
        inside = ""
      }
      for (bytes = length($0); at <= bytes; at += RSTART + RLENGTH - 1) {
        left = substr($0, at, size)
        if (! match(left, token) || RSTART + RLENGTH > size || substr(left, 1, RSTART - 1) ~ ("[\"" quote "]")) {
          left = substr($0, at)
          if (! match(left, token)) break
        }
        found = substr(left, RSTART, RLENGTH)
        if (found == "=") { key = last; is_string = 0; continue }
        tell()
        if (found ~ /^#/) break
        if (found ~ "^(" long ")$") {
          if (end = index(substr($0, at + RSTART + 2), found)) { at += end + 2; continue }
          inside = found
          break
        }
        is_string = found ~ ("^[\"" quote "]")
        last = is_string ? substr(found, 2, length(found) - 2) : found
      }
      tell()
    }'
}

# is_missing OPTION PATH: dies because the file PATH does not exist
is_missing() {
  case $1:$2 in
    --appliance:*.pub) die 2 "$appliance: $2 does not exist" "name another key under keys; ssh-keygen -t ed25519 makes one" ;;
    --appliance:*) die 2 "$appliance: $2 does not exist" "mend its path in $appliance: paths are relative to that file" ;;
    *) die 2 "$1: $2 does not exist" "mend the path; what begins with neither / nor ~ is looked for in $PWD" ;;
  esac
}
