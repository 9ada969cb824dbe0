# Messages of run.sh, and its exit after an error.
# shellcheck shell=sh

say() { printf '%s\n' "$*" >&2; }

# plain: replaces everything but printable ASCII in other programs' output by question marks
plain() { LC_ALL=C tr -c '[:print:]\n\t' '?'; }

# die CODE MESSAGE [HINT]: prints an error and exits; docs/exit-codes.md lists the codes
die() {
  case $stopped:$1 in # an error caused by a signal counts as the signal
    INT:130 | TERM:143) ;;
    INT:*) set -- 130 interrupted ;;
    TERM:*) set -- 143 terminated ;;
  esac
  say "error: $2"
  [ $# -lt 3 ] || say "try: $3"
  exit "$1"
}

last_words() { tail -n "${1:-15}" "$state/log" | plain >&2; }
