# What is known of the image that is written to a disk: its packing, its size, its block map, its checksums.
# shellcheck shell=sh

# find_packer: sets $packer to the program that packed the image, empty for none
find_packer() {
  packer=
  case $(od -An -tx1 -N8 "$image" | tr -d ' \n') in
    28b52ffd*) packer=zstd ;;
    fd377a585a00*) packer=xz ;;
    1f8b08*) packer=gzip ;;
    514649fb* | 4b444d56* | 7668647866696c65 | 636f6e6563746978)
      die 2 "$image is a disk of a virtual machine, not of a card" "build it with --disk-format raw" ;;
  esac
}

# is_of_use FILE: whether FILE beside an image is a file that can be read, and no larger than any that a run writes there. Others may
# have made it, and awk, grep and sed take the memory that a line needs.
is_of_use() {
  no_link "$1"
  [ -f "$1" ] && [ -r "$1" ] || return
  [ "$(wc -c < "$1")" -gt 16777216 ] || return 0
  say "$1 is larger than any that a run writes: it is not used"
  return 1
}

# find_sizes: sets $image_bytes, the size of the unpacked image, 0 if nothing beside the image says it, and $map, its block map
find_sizes() {
  map=$image.bmap
  is_of_use "$map" || map=
  image_bytes=0
  if [ -z "$packer" ]; then
    image_bytes=$(($(wc -c < "$image")))
  elif is_of_use "$image.result.json"; then
    image_bytes=$(sed -n 's/^ *"virtual_size": \([1-9][0-9]\{0,17\}\),*$/\1/p' "$image.result.json" | head -n 1)
    # Of an image that nixpkgs' recipe has packed only the size of the file is known.
    [ "${image_bytes:-0}" -gt "$(($(wc -c < "$image")))" ] || image_bytes=0
  fi
}

# checksums_right: ends run.sh if the image, or its block map, is not the one whose checksum is beside it. A block map that the list of
# checksums does not have is not used: whoever has made it could leave out parts of an image that is right.
checksums_right() {
  if ! is_of_use "$image.sha256"; then
    say "there is no $image.sha256 to compare with: a damaged image would not be noticed"
    return
  fi
  for file in "$image" ${map:+"$map"}; do
    expected=$(name=${file##*/} awk 'substr($0, 67) == ENVIRON["name"] { print $1 }' "$image.sha256")
    if [ -z "$expected" ] && [ "$file" = "$map" ]; then
      say "$image.sha256 has no checksum of ${map##*/}: the block map is not used"
      map=
    elif [ -z "$expected" ]; then
      say "$image.sha256 has no checksum of ${file##*/}: damage would not be noticed"
    else
      with_life 7200 "checking ${file##*/}" put_checksum "$file" || { end_if_stopped "the check"; die 2 "$file cannot be read" "ls -l shows who may read it"; }
      [ "$(cat "$state/sum")" = "$expected" ] \
        || die 14 "$file does not match $image.sha256: it is damaged or incomplete" "copy or download it again"
    fi
  done
}

put_checksum() { checksum "$1" > "$state/sum"; }
