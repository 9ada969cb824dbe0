# What run.sh says, and how it ends.
# shellcheck shell=sh

say() { printf '%s\n' "$*" >&2; }

# plain: what others say, without what steers a terminal
plain() { LC_ALL=C tr -c '[:print:]\n\t' '?'; }

# die CODE MESSAGE [WAY OUT]: the exit codes are those of docs/exit-codes.md
die() {
  case $stopped:$1 in # what a signal has broken is no failure of its own
    INT:130 | TERM:143) ;;
    INT:*) set -- 130 interrupted ;;
    TERM:*) set -- 143 terminated ;;
  esac
  say "error: $2"
  [ $# -lt 3 ] || say "try: $3"
  exit "$1"
}

last_words() { tail -n "${1:-15}" "$state/log" | plain >&2; }
