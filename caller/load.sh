# Gives a checked kit (caller/kit.sh) to the engine: its images by ids, then, by the orchestrator, its store paths.
# shellcheck shell=sh

# load_kit: loads the images of $kit, sees that they are the ones of its manifest, and gives them their names
load_kit() {
  ask info --format '{{.DriverStatus}}'
  case $(cat "$state/said") in
    *io.containerd.*) die 4 "this engine keeps images in containerd's store, which gives them other ids than a kit has" \
      "turn the containerd image store off in Docker's settings; docs/how-to/air-gapped.md has ways without a kit" ;;
  esac
  if images_here; then
    say "the engine has the images of $kit"
  else
    docker_works "loading the images" load_images || {
      end_if_stopped "the loading of images"
      last_words
      die 3 "Docker cannot load the images of $kit" "see Docker's lines above; the usual cause is a full disk"
    }
    images_here || bad_kit "Docker has made other images of it than its manifest says"
  fi
  id=$(id_of nixos-image-orchestrator)
  ask image inspect --format '{{index .Config.Labels "org.nixos-image.source"}}' "$id"
  [ "$(cat "$state/said")" = "$made $parents" ] || bad_kit "its orchestrator was made of other files than this checkout's"
  while read -r kind name id rest; do
    [ "$kind" != image ] || ask tag "sha256:$id" "$name" || die 3 "the image $name cannot be tagged" "restart Docker, then call run.sh again; ./run.sh doctor examines Docker"
  done < "$state/lines"
}

id_of() { sed -n "s/^image $1 \\([0-9a-f]*\\) .*/sha256:\\1/p" "$state/manifest"; }

# images_here: whether the engine has each image of the kit, under the id that its content gives it
images_here() {
  while read -r kind name id rest; do
    [ "$kind" = image ] || continue
    ask image inspect --format '{{.Id}}' "sha256:$id" && [ "$(cat "$state/said")" = "sha256:$id" ] || return
  done < "$state/lines"
}

# load_images: has Docker load the images. They come without names: those would be Docker's to give. The list of images is made of the
# checked manifest, behind the members that it is about.
load_images() {
  mkdir -p "$state/list" && awk '
    BEGIN { printf "[" }
    $1 == "image" {
      printf "%s{\"Config\":\"%s.json\",\"RepoTags\":null,\"Layers\":[", between, $3
      for (i = 4; i <= NF; i++) printf "%s\"%s.tar\"", (i > 4 ? "," : ""), $i
      printf "]}"
      between = ","
    }
    END { print "]" }' "$state/lines" > "$state/list/manifest.json" || return
  { image_members && tar -cf - -C "$state/list" manifest.json; } | client load
}

# image_members: prints the members of images. Whoever may write to the kit may change it after the check: the headers are those that were
# checked, and as many bytes follow as they say, so that no change makes another member. Docker sees whether a member's bytes have changed.
image_members() {
  image_parts > "$state/parts" || return
  while read -r name size; do
    blocks 1 <&6 && blocks 1 <&5 > /dev/null && filled $(((size + 511) / 512)) <&5 || return
  done < "$state/parts" 5< "$kit" 6< "$state/headers"
}

# image_parts: prints NAME SIZE for each member before the first that is no part of an image
image_parts() { awk '$1 !~ /^[0-9a-f]*\.(json|tar)$/ { exit } { print }' "$state/members"; }

# filled BLOCKS: copies so many blocks from stdin, with zeros in place of those that are not there
filled() { [ "$1" = 0 ] || { blocks "$1"; cat /dev/zero 2> /dev/null; } | head -c $(($1 * 512)); }

# store_at: prints the block of the kit at which the first member begins that is no part of an image
store_at() { image_parts | awk '{ at += 1 + int(($2 + 511) / 512) } END { print at + 0 }'; }

# send_kit ARGUMENTS...: has the orchestrator, called with ARGUMENTS, put the store paths of the kit into the store
send_kit() {
  container=nixos-image-$run
  {
    trap '' HUP TERM
    {
      sed -n "s/^file \\([0-9a-f]*\\) \\([0-9]*\\) store\\.tar\$/\\1 \\2 $(printf %s "$kit_key" | sed 's/\//\\\//g')/p" "$state/manifest"
      size=$(sed -n 's/^store\.tar //p' "$state/members")
      dd if="$kit" bs=512 skip=$(($(store_at) + 1)) count=$(((size + 511) / 512)) 2> /dev/null
    } | start -i -- "$@"
  } &
  await_client $!
  code=$?
  container=
  heed_end
  after_death
  [ $code != 0 ] || ! grep -q '^sources\.tar ' "$state/members" \
    || say "its sources: tar -xOf $(shell_word "$kit") sources.tar | tar -xf - ; then build-commands has what makes the images"
  return "$code"
}
