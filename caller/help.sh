# What run.sh answers by itself, without Docker and before anything is built: help, formats, version. The texts in docs/help
# and docs/answers are made by `python3 -m orchestrator.verbs.help` (docs/architecture.md, "Generated files").
# shellcheck shell=sh

# answer WORDS...: prints the answer to a command line and ends; returns if it needs Docker.
answer() {
  case $#:${1:-} in
    1:version) version; exit ;;
    1:*[!a-z]* | 0:) ;;
    1:*) show "$root/docs/answers/$1.txt" ;;
    2:help) case $2 in *[!a-z]*) ;; *) show "$root/docs/help/$2.txt" ;; esac ;;
  esac
  case ${1:-} in -*) set -- build "$@" ;; esac # options without a verb are a build's
  case ${1:-} in '' | *[!a-z]*) return ;; esac
  page=$root/docs/help/$1.txt
  [ -f "$page" ] || return 0
  first=$1
  shift
  for word; do
    case $word in
      -h | --help) show "$page" ;;
      --) return ;;
    esac
    # What follows their first word is for another program.
    case $first in compose | test) return ;; esac
  done
}

# show FILE: prints it and ends, if it is there
show() {
  [ -f "$1" ] || return 0
  cat "$1"
  exit
}

# As orchestrator/verbs/version.py has it; in addition the engine's version, if it answers at once.
version() {
  nixpkgs=$(sed -n 's/^ *"rev": "\(.*\)",$/\1/p' "$root/flake.lock")
  nixpkgs="$nixpkgs ($(sed -n 's/^ *"ref": "\(.*\)",$/\1/p' "$root/flake.lock"))"
  nix=$(sed -n '/^    "nix-bin"/,/}/ { s/^ *"version": "\([0-9.]*\).*/\1/p; s/^ *"suite": "\(.*\)",$/(\1)/p; }' "$root/locks/debian.json")
  emulators=$(sed -n '/^  "emulators"/,$ s/^    "\([0-9.]*\)": {$/\1/p' "$root/locks/debian.json" \
    | awk 'NR > 1 { printf ", " } { printf "%s", $0 } NR == 1 { printf " (default)" }')
  line nixos-image-appliance "$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")"
  line nixpkgs "$nixpkgs"
  # shellcheck disable=SC2086  # words
  line Nix "$(echo $nix)"
  line emulators "QEMU $emulators"
  line 'base image' "$(cat "$root/locks/base")"
  engine=$(engine_version)
  [ -z "$engine" ] || line engine "$engine"
}

line() { printf '%-21s  %s\n' "$1" "$2"; }

# Nothing is said of an engine that is not there, or needs more than a moment.
engine_version() {
  command -v docker > /dev/null || return
  docker version --format 'Docker {{.Server.Version}}, {{.Server.Os}}/{{.Server.Arch}}' > "$state/engine" 2> /dev/null < /dev/null &
  asked=$!
  { sleep 0.3 || sleep 1; kill -KILL $asked; } > /dev/null 2>&1 & # POSIX' sleep takes whole seconds only
  watch=$!
  if wait $asked 2> /dev/null; then cat "$state/engine"; fi
  kill $watch 2> /dev/null
}
