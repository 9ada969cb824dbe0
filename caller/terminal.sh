# The caller's terminal, and what stands for one in CI.
# shellcheck shell=sh

# find_terminal: sets $columns and $rows (0 without a terminal that can redraw lines), $asks (1 if a person can answer) and $ci
find_terminal() {
  if [ -t 2 ]; then
    [ ! -t 3 ] || asks=1
    case ${TERM:-dumb} in dumb) ;; *) terminal_size ;; esac
  fi
  case ${GITHUB_ACTIONS:-}:${GITLAB_CI:-} in
    true:*) ci=github ;;
    :true) ci=gitlab ;;
  esac
}

# terminal_size: sets $columns and $rows
terminal_size() {
  size=$(stty size 2> /dev/null < /dev/tty)
  rows=${size%% *} columns=${size##* }
  case $rows$columns in '' | *[!0123456789]*) rows=24 columns=80 ;; esac
}
