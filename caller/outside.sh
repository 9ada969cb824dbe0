# Tells where what is sent lies, where others may have chosen that.
# shellcheck shell=sh

# tell_outside OPTION PATH: says where what is sent lies, if others may have chosen that: it is what the appliance.toml names, outside of
# its folder, or a link in the path that the command line names leads there, which a checkout may have
tell_outside() {
  [ -e "$2" ] || return 0
  case $1 in
    --appliance*) is_outside "$2" || return 0 ;;
    *)
      ! is_elsewhere "$2" || say "sending $real, to which $2 leads"
      return
      ;;
  esac
  if [ "$real" = "$2" ]; then say "sending $2, which $appliance names"
  else say "sending $real, which $appliance names as $2"; fi
}

# is_outside PATH: whether PATH, which exists, leads out of the appliance.toml's folder; sets $real as find_real does
is_outside() {
  find_real "$1"
  folder=$(physical "${appliance%/*}/")
  case $real in "${folder%/}"/*) return 1 ;; esac
}

# is_elsewhere PATH: whether a link in PATH, which exists, leads elsewhere, the working directory's own path aside; sets $real as find_real does
is_elsewhere() {
  find_real "$1"
  straight=${1%/}
  case $1/ in "${PWD%/}"/*) straight=$(pwd -P) straight=${straight%/}${1#"${PWD%/}"} straight=${straight%/} ;; esac
  [ "${real%/}" != "$straight" ]
}

# find_real PATH: sets $real to where PATH, which exists, leads, links included
find_real() {
  follow "$1"
  name=/${real##*/}
  [ ! -d "$real" ] || name=
  folder=$(physical "${real%"$name"}/" && echo .)
  real=${folder%??}
  refuse_odd "$1" "$real"
  real=${real%/}$name
}

# follow PATH: sets $real to what the link PATH leads to, or to PATH
follow() {
  real=$1 links=0
  while [ -L "$real" ]; do
    links=$((links + 1))
    [ $links -le 40 ] || die 2 "$1: its links lead nowhere" "ls -l shows them"
    target=$(readlink "$real" && echo .)
    target=${target%??}
    refuse_odd "$1" "$target"
    case $target in /*) real=$target ;; *) real=${real%/*}/$target ;; esac
  done
}

# refuse_odd PATH TARGET: ends run.sh if PATH leads to a name with control characters. The shell drops line ends at the end of what it is
# told, so run.sh would look at another file than the one that is sent.
refuse_odd() {
  case $2 in *[[:cntrl:]]*) die 2 "$1 leads to a name with control characters" "rename what it leads to" ;; esac
}
