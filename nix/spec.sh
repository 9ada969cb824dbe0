# shellcheck shell=sh disable=SC2154
# Writes $spec to $out, with the files of the folder $firmware, if there is one, in its empty firmware.files.
# The shell's own commands only. FAT names have neither quotes nor backslashes, so they are JSON as they are.
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
