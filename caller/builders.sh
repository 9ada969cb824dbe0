# Finds the builders that the command line names: their lines, and the SSH keys that these lines name.
# shellcheck shell=sh

# find_builders ARGUMENTS...: exports NIXOS_IMAGE_BUILDERS: for each --builders of ARGUMENTS a line @FOLDER, then the lines of
# builders, whose keys' paths are seen from that folder. A builder's line has no secret, only the path of a key.
find_builders() {
  case ${1:-build} in -* | build | demo) ;; *) return 0 ;; esac
  follows=
  for word; do
    case $follows$word in
      1*) follows='' && tell_builders "$word" ;;
      --builders) follows=1 ;;
      --builders=*) tell_builders "${word#*=}" ;;
    esac
  done > "$state/builders"
  NIXOS_IMAGE_BUILDERS=$(cat "$state/builders")
  export NIXOS_IMAGE_BUILDERS
}

# tell_builders VALUE: prints the lines that the VALUE of one --builders stands for
tell_builders() {
  case $1 in
    @*)
      file=${1#@}
      [ -e "$file" ] || is_missing --builders "$file"
      [ -f "$file" ] && [ -r "$file" ] || die 2 "--builders: $file is not a file that can be read" "ls -l shows what it is, and who may read it"
      [ "$(wc -c < "$file")" -le 100000 ] || die 2 "--builders: $file is larger than 100 kB" "it has one line for each machine: docs/how-to/worker.md"
      absolute "$file"
      printf '@%s\n' "${absolute%/*}/"
      LC_ALL=C tr -d '\000' < "$file"
      echo
      ;;
    *) printf '@%s/\n%s\n' "${PWD%/}" "$1" ;;
  esac
}

# in_builders: whether a builder's line names the path $wanted as its key. The orchestrator may ask for no other file of the caller's:
# the engine may be anybody's.
in_builders() {
  printf '%s\n' "${NIXOS_IMAGE_BUILDERS:-}" | builders_keys > "$state/paths"
  if [ -n "$appliance" ]; then
    { printf '@%s/\n' "${appliance%/*}" && printf '%s\n' "$NIXOS_IMAGE_APPLIANCE_TEXT" | named_paths ' builders '; } |
      builders_keys >> "$state/paths"
  fi
  while IFS= read -r path_named; do
    ! is_wanted "$path_named" || return 0
  done < "$state/paths"
  return 1
}

# builders_keys: prints the path of each key in the builders' lines on stdin
builders_keys() {
  tr ';' '\n' | awk -v home="${HOME:-/}" '
    /^@/ { folder = substr($0, 2); next }
    { sub(/#.*/, "") }
    NF < 3 { next }
    $3 ~ /^~\// { print home substr($3, 2); next }
    $3 ~ /^\// { print $3; next }
    { print folder $3 }'
}
