# Tests whether run.sh's command line names a path, in the form in which the orchestrator writes paths.
# shellcheck shell=sh

# Suffixes of the files beside an image. What vouches for the image comes first (orchestrator/shared/artifact.py, BESIDE).
beside='.sha256.sig .sha256 .provenance.json .cdx.json .bmap .image-info.json .rpi-imager.json .report.html .result.json .serial.log .log'

# given OPTION ARGUMENTS...: whether ARGUMENTS have OPTION, alone or with its value in the same word
given() {
  option_word=$1
  shift
  for word; do
    case $option_word:$word in
      "$option_word:$option_word" | --*:"$option_word="*) return 0 ;;
      --*) ;;
      -*:"$option_word"*) return 0 ;;
    esac
  done
  return 1
}

# named OPTION ARGUMENTS...: whether ARGUMENTS give the path $wanted to OPTION
named() {
  option_word=$1
  shift
  follows=0 # the number of words until the value
  for word; do
    [ $follows != 1 ] || ! is_value "$word" || return 0
    follows=$((follows > 0 ? follows - 1 : 0))
    case $option_word:$word in
      --override-input:--override-input) follows=2 ;;
      "$option_word:$option_word") follows=1 ;;
      --*:"$option_word="*) ! is_value "${word#*=}" || return 0 ;;
      --*) ;;
      -*:"$option_word"*) ! is_value "${word#"$option_word"}" && ! is_value "${word#"$option_word="}" || return 0 ;;
    esac
  done
  return 1
}

# is_value VALUE: whether VALUE of the option $option_word names the path $wanted
is_value() {
  value=$1
  case $option_word:$value in
    --inject:*) source_of "$1" || return ;;
    --flake:* | --with:*)
      value=${value%%#*}
      value=${value:-.}
      folder_of "${value%%\?*}"
      ;;
    --override-input:*) folder_of "${value%%\?*}" ;;
    -I:*=*) folder_of "${value#*=}" ;;
    --nixpkgs:*) folder_of "$value" ;;
  esac
  is_wanted "$value"
}

# folder_of REFERENCE: sets $value to the folder that REFERENCE names: a path, or a URL, in which %XX is a byte
folder_of() {
  left=$1 value=
  case $left in
    git+file:*) left=${left#git+file:} left=${left#//} ;;
    path:*) left=${left#path:} ;;
    *) value=$left left= ;;
  esac
  while :; do
    value=$value${left%%\%*}
    case $left in *%*) left=${left#*%} ;; *) return ;; esac
    case $left in
      [0-9A-Fa-f][0-9A-Fa-f]*)
        rest=${left#??}
        value=$value$(printf %b "\\0$(printf %o "0x${left%"$rest"}")")
        left=$rest
        ;;
      *) value=$value% ;;
    esac
  done
}

# source_of SRC:DEST[:MODE]: sets $value to SRC, in which a colon is written twice
source_of() {
  value=
  left=$1
  while :; do
    case $left in *:*) ;; *) return 1 ;; esac
    value=$value${left%%:*}
    left=${left#*:}
    case $left in
      :*) value=$value: left=${left#:} ;;
      *) return 0 ;;
    esac
  done
}

# is_positional NUMBER ARGUMENTS...: whether the positional argument with this number is the path $wanted. All options of boot, flash, kit
# and verify have a value, except those listed here, which have none or two.
is_positional() {
  number=$1 follows=0 all=''
  shift
  for word; do
    if [ $follows -gt 0 ]; then follows=$((follows - 1)); continue; fi
    case $all$word in
      --) all=1 ;;
      --allow-no-login | --dry-run | --force | --ignore-hardware | --no-verify | --print-command | --quiet | --show-trace | --test | --verbose | --yes | --*=*) ;;
      -q | -v | -f?* | -I?*) ;;
      --option | --override-input | --special-arg) follows=2 ;;
      -f | -I | --*) follows=1 ;;
      *)
        number=$((number - 1))
        [ $number = 0 ] || continue
        is_wanted "$word"
        return
        ;;
    esac
  done
  return 1
}

# is_beside SUFFIXES ARGUMENTS...: whether $wanted is the image that ARGUMENTS name, with one of SUFFIXES
is_beside() {
  suffixes=$1 file=$wanted
  shift
  for suffix in $suffixes; do
    wanted=${file%"$suffix"}
    [ "$wanted" = "$file" ] || ! is_positional 1 "$@" || return 0
  done
  return 1
}

is_wanted() {
  [ -n "$1" ] || return
  absolute "$1"
  [ "$absolute" = "$wanted" ]
}

# absolute PATH: sets $absolute to the absolute path without `.`, `..` and repeated slashes; links are not resolved, as in the
# orchestrator
absolute() {
  case $1 in /*) left=$1 ;; *) left=$PWD/$1 ;; esac
  absolute=
  while [ -n "$left" ]; do
    step=${left%%/*}
    case $left in */*) left=${left#*/} ;; *) left= ;; esac
    case $step in
      '' | .) ;;
      ..) absolute=${absolute%/*} ;;
      *) absolute=$absolute/$step ;;
    esac
  done
  absolute=${absolute:-/}
}
