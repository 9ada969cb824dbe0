# Keeps home folders from being sent whole.
# shellcheck shell=sh

# homes: prints the real paths of home folders that nobody means to send: $HOME, that of the user who has called sudo or doas, and
# that of the owner of $tree
homes() {
  physical "${HOME:-/}" 2> /dev/null
  # shellcheck disable=SC2012  # the owner's name, not the file's
  for user in "${SUDO_USER:-}" "${DOAS_USER:-}" "$(ls -ld "$tree" | awk '{ print $3; exit }')"; do
    case $user in '' | [!A-Za-z_]* | *[!A-Za-z0-9_.-]*) continue ;; esac
    home=
    eval "home=~$user" # a tilde before a variable is not expanded
    case $home in /*) physical "$home" 2> /dev/null ;; esac
  done
}

# not_home OPTION: dies if $tree is `/` or a home folder; an error names OPTION
not_home() {
  here=$(physical "$tree")
  [ "$here" != / ] && ! homes | grep -qxF -e "$here" || die 2 "$1: all of $tree would be sent" "move it to a separate folder"
}

# not_above_home OPTION: dies if $tree, of which everything would be sent, has a home folder; an error names OPTION
not_above_home() {
  homes | here=$(physical "$tree")/ awk 'index($0 "/", ENVIRON["here"]) == 1 { found = 1 } END { exit !found }' || return 0
  die 2 "$1: all of $tree would be sent, with a home folder in it" "move the file to a separate folder"
}
