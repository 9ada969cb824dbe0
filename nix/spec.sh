# shellcheck shell=sh disable=SC2154
# Writes $spec to $out, and lists the files of the folder $firmware, if given, in the spec's firmware.files: hidden ones, too, and
# empty folders, whose names end with a slash. Links are followed. Uses only shell builtins. FAT names have neither quotes nor
# backslashes, so they need no escapes in JSON.
files() {
  # Hidden names need a pattern of their own; a pattern that nothing matches stays as it is.
  set -- "$1" "$1"/* "$1"/.*
  folder=$1 empty=1
  shift
  for file; do
    case $file in */. | */..) continue ;; esac
    [ -e "$file" ] || continue
    empty=
    if [ -d "$file" ]; then
      files "$file"
      empty=
    else
      list "$file"
    fi
  done
  [ -z "$empty" ] || [ "$folder" = "$firmware" ] || list "$folder/"
}

list() {
  printf '%s"%s":"%s"' "$separator" "${1#"$firmware"/}" "$1"
  separator=,
}

if [ -n "$firmware" ]; then
  separator=
  printf '%s"files":{' "${spec%%\"files\":\{\}*}"
  files "$firmware"
  printf '}%s\n' "${spec#*\"files\":\{\}}"
else
  printf '%s\n' "$spec"
fi >"$out"
