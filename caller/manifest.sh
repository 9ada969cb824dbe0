# Checks what the manifest of a kit says (caller/kit.sh).
# shellcheck shell=sh

# check_lines: ends run.sh unless the manifest lists all other members in their order, images of ours made of them, and this checkout's
# images. Sets $kit_key, the key that has signed the store's paths.
check_lines() {
  sed -n 's/^file [0-9a-f]* \([0-9]*\) \(.*\)/\2 \1/p' "$state/manifest" > "$state/listed"
  grep -v -e '^manifest ' -e '^manifest\.sig ' "$state/members" | cmp -s - "$state/listed" || bad_kit "its manifest lists other members than it has"
  kit_key=none parents='' made='' machine=''
  sed '1d; $d' "$state/manifest" > "$state/lines"
  while read -r kind first rest; do
    case $kind in
      version) ;;
      source) made=$first ;;
      architecture) machine=$first ;;
      key) case $first in nixos-image:*[!A-Za-z0-9+/=:]*) bad_kit "its key is none" ;; nixos-image:*) kit_key=$first ;; *) bad_kit "its key is none" ;; esac ;;
      image) check_image "$first" "$rest" ;;
      file) check_file "$first" "${rest#* }" ;;
      *) bad_kit "its manifest has a line that is not known" ;;
    esac
  done < "$state/lines"
  [ -n "$base_id" ] && [ -n "$parents" ] && is_named nixos-image-orchestrator || bad_kit "an image is missing in it"
  find_cpu && [ "$cpu" = "$machine" ] || bad_kit "its images are for another CPU than the engine's"
  [ "$(source_state)" = "$made" ] || bad_kit "it was made by another checkout than this one, or with another CA bundle"
}

# check_image NAME PARTS: ends run.sh unless NAME is a name that a kit may give to an image, and PARTS are checksums: the image's id and its
# layers', all of them members. Sets $base_id and $parents to the ids of the images that others are made of.
check_image() {
  case $1 in
    nixos-image-base | nixos-image-runtime | nixos-image-orchestrator | nixos-image-builder | nixos-image-qemu-setup:latest | nixos-image-test) ;;
    nixos-image-boot-*[!a-z0-9_]*) bad_kit "it has an image with a name that is not ours" ;;
    nixos-image-boot-?*) ;;
    *) bad_kit "it has an image with a name that is not ours" ;;
  esac
  [ "$(grep -c "^image $1 " "$state/manifest")" = 1 ] || bad_kit "it has two images $1"
  suffix=json
  for part in $2; do
    is_sum "$part" && grep -q "^$part\\.$suffix " "$state/members" || bad_kit "a part of $1 is missing in it"
    suffix=tar
  done
  case $1 in
    nixos-image-base) base_id=sha256:${2%% *} ;;
    nixos-image-runtime) parents=sha256:${2%% *} ;;
  esac
}

# is_named NAME: whether the manifest has an image NAME
is_named() { grep -q "^image $1 " "$state/manifest"; }

# check_file SUM NAME: ends run.sh unless the member may have this name: a part of an image is named by its checksum
check_file() {
  is_sum "$1" || bad_kit "its manifest is damaged"
  case $2 in
    "$1.json" | "$1.tar" | store.tar | sources.tar) ;;
    *) bad_kit "it has a member that no kit has" ;;
  esac
}
