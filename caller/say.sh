# Messages of run.sh, and its exit after an error.
# shellcheck shell=sh

# say TEXT...: prints one line, also if a name in it has line ends
say() { { printf %s "$*" | LC_ALL=C tr '\n' '?'; echo; } | plain >&2; }

# sed script that replaces, as bytes in UTF-8, the control characters U+0080 to U+009F, which a terminal takes for ESC and a letter, and
# the marks that hide text or change its direction
steering=$(printf 's/\302[\200-\237]/?/g; s/\342\200[\213-\217\250-\256]/?/g; s/\342\201[\240-\257]/?/g')

# sed script that adds a blank to what GitHub's runner would take for a command (orchestrator/shared/ci.py). The runner skips blanks before
# one, Unicode's, too: these become plain blanks.
commands=$(printf 's/\302\240/ /g; s/\341\232\200/ /g; s/\342\200[\200-\212\250\251\257]/ /g; s/\342\201\237/ /g; s/\343\200\200/ /g')
commands="$commands; "'s/##\[/## [/g; s/^\([[:space:]]*\):\(:\)/\1: \2/'

# plain: replaces whatever could steer a terminal in text that others have written by question marks. Other letters stay: paths may
# have any. busybox' tr knows no class [:print:].
plain() {
  shown=$steering
  [ "${ci:-}" != github ] || shown="$steering; $commands"
  LC_ALL=C tr '\000-\010\013-\037\177' '?' | LC_ALL=C sed "$shown"
}

# is_plain TEXT: whether TEXT is one line that cannot steer a terminal
is_plain() {
  case $1 in *[[:cntrl:]]*) return 1 ;; esac
  [ "$(printf '%s\n' "$1" | plain)" = "$1" ]
}

# in_quotes TEXT: prints TEXT between quotes, as a word of a shell
in_quotes() { printf '%s\n' "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/"; }

# shell_word TEXT: prints TEXT as a word of a shell, for a command that a person copies
shell_word() { case $1 in *[!A-Za-z0-9_./:@%+,-]*) in_quotes "$1" ;; *) printf '%s\n' "$1" ;; esac; }

# die CODE MESSAGE [HINT]: prints an error and exits; docs/exit-codes.md lists the codes
die() {
  case $stopped:$1 in # an error caused by a signal counts as the signal
    INT:130 | TERM:143) ;;
    INT:*) set -- 130 interrupted ;;
    TERM:*) set -- 143 terminated ;;
  esac
  case $1 in 130 | 143) ;; *) [ -z "${examining:-}" ] || report_alone "${lack:-start}" "$2" "${3:-}" ;; esac
  say "error: $2"
  [ "${ci:-}" != github ] || printf '::error::%s\n' "$(printf %s "$2" | plain | tr '\n' ' ' | sed 's/%/%25/g')" >&2
  [ $# -lt 3 ] || say "try: $3"
  page=$(page_of "$1")
  [ -z "$page" ] || say "see: $page"
  exit "$1"
}

# page_of CODE: prints the documentation of the exit code, or of the rule $lack that the error is about
page_of() {
  case ${lack:+rule}$1 in
    rule*) echo "docs/doctor.md#$lack" ;;
    2) echo 'docs/errors.md#usage' ;;
    3) echo 'docs/errors.md#docker' ;;
    4) echo 'docs/errors.md#host' ;;
    8) echo 'docs/errors.md#delivery' ;;
    14) echo 'docs/errors.md#verification' ;;
    17) echo 'docs/errors.md#flash' ;;
    70) echo 'docs/errors.md#bug' ;;
  esac
}

# no_room: ends run.sh because a file of its own could not be written. A list that ends too early would name other files.
no_room() { die 4 "nothing more can be written to ${state%/*}" "free space there, or set TMPDIR to another folder"; }

# need_room: ends run.sh if its folder takes no more, so that what it would have told of an error is lost
need_room() { head -c 65536 /dev/zero 2> /dev/null > "$state/room" || no_room; }

last_words() { tail -n "${1:-15}" "$state/log" | plain >&2; }
