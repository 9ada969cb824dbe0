# Tells where what is sent lies, where others may have chosen that.
# shellcheck shell=sh

# tell_outside OPTION PATH: says where what is sent lies, if others may have chosen that: it is what the appliance.toml names, outside of
# its folder, or a link in the path that the command line names leads there, which a checkout may have
tell_outside() {
  [ -e "$2" ] || return 0
  case $1 in
    --appliance*) is_outside "$2" || return 0 ;;
    *)
      find_real "$2"
      straight=$2
      case $2/ in "${PWD%/}"/*) straight=$(pwd -P) straight=${straight%/}${2#"${PWD%/}"} ;; esac
      [ "$real" = "$straight" ] || say "sending $real, to which $2 leads"
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

# find_real PATH: sets $real to where PATH, which exists, leads, links included
find_real() {
  real=$1
  while [ -L "$real" ]; do
    target=$(readlink "$real")
    case $target in /*) real=$target ;; *) real=${real%/*}/$target ;; esac
  done
  name=/${real##*/}
  [ ! -d "$real" ] || name=
  folder=$(physical "${real%"$name"}/")
  real=${folder%/}$name
}
