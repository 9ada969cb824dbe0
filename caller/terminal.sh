# The caller's terminal, and what stands for one in CI.
# shellcheck shell=sh

# find_terminal: sets $columns and $rows (0 without a terminal that can redraw lines), $asks (1 if a person can answer) and $ci
find_terminal() {
  # A CI job may have a terminal, but nobody sits there.
  if [ "${CI:-}" != true ] && [ -t 2 ]; then
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
  size=$(stty size <&2 2> /dev/null)
  rows=${size%% *} columns=${size##* }
  case $rows$columns in '' | *[!0123456789]*) rows=24 columns=80 ;; esac
}

# on_resize: tells the orchestrator the terminal's size after a change, at most once a second: it has no terminal itself
# (orchestrator/shared/live.py)
on_resize() {
  [ -n "$container" ] && [ "$columns" -gt 0 ] && [ ! -e "$state/resized" ] || return 0
  : > "$state/resized"
  (
    sleep 1
    rm -f "$state/resized"
    terminal_size
    # shellcheck disable=SC2016  # another shell's program
    limited "$patience" exec "$container" sh -c 'echo "$0 $1" > /tmp/terminal' "$rows" "$columns" > /dev/null
  ) &
}

# show_cursor: shows the cursor again, which a killed orchestrator has hidden
show_cursor() { [ "$columns" = 0 ] || printf '\033[?25h' >&2; }

# answer_question: reads the first line of the orchestrator's stream from stdin. If it asks whether a costly build may go on, asks the
# person at the terminal and answers by a signal. Only this line is read: what follows is for tar.
answer_question() {
  IFS= read -r line && [ "$line" = ask ] || return 0
  # The reading process ends with the run, which a signal may end: this shell gets no signals.
  read_answer <&3 &
  reader=$!
  while kill -0 $reader 2> /dev/null && [ ! -e "$state/stopped" ] && [ ! -e "$state/code" ] && [ -d "$state" ]; do sleep 1; done
  end_family $reader
}

# read_answer: asks on stderr until stdin has an answer, and passes that on to the orchestrator
read_answer() {
  answer=
  while :; do
    printf 'Go on? [y/n] ' >&2
    IFS= read -r answer || answer=n # the terminal was closed
    case $answer in
      [yY] | [yY][eE][sS]) signal=USR1 ;;
      [nN] | [nN][oO]) signal=USR2 ;;
      *) continue ;;
    esac
    limited "$patience" kill --signal "$signal" "$container" > /dev/null
    return
  done
}
