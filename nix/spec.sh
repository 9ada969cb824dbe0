# shellcheck shell=sh disable=SC2154
# Writes $spec to $out, and lists the files of the folder $firmware, if given, in the spec's firmware.files. Uses only shell
# builtins. FAT names have neither quotes nor backslashes, so they need no escapes in JSON.
files() {
  for file in "$1"/*; do
    if [ -d "$file" ]; then
      files "$file"
    else
      printf '%s"%s":"%s"' "$separator" "${file#"$firmware"/}" "$file"
      separator=,
    fi
  done
}

if [ -n "$firmware" ]; then
  separator=
  printf '%s"files":{' "${spec%%\"files\":\{\}*}"
  files "$firmware"
  printf '}%s\n' "${spec#*\"files\":\{\}}"
else
  printf '%s\n' "$spec"
fi >"$out"
