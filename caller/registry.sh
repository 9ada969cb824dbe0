# Container images by a registry: run.sh pulls those that locks/images names by digest, instead of building them, if they are what this
# checkout would build; `images push REGISTRY` pushes them and writes that file. A line of it is about the registry, or about an image
# for one CPU: CPU, checksum of the checkout's files, name, id, digest in the registry.
# shellcheck shell=sh

# Images that are pushed and pulled: what a build, the demo and all other images need.
published='nixos-image-base nixos-image-runtime nixos-image-orchestrator nixos-image-builder nixos-image-qemu-setup:latest'

# pull_images: pulls the images of locks/images. Where that is not possible, says why in one line; then they are built.
pull_images() {
  registry=${NIXOS_IMAGE_REGISTRY:-}
  [ "$registry" != none ] || return 0
  if [ ! -f "$root/locks/images" ]; then
    [ -z "$registry" ] || say "NIXOS_IMAGE_REGISTRY: this checkout has no digests of images (locks/images): they are built"
    return 0
  fi
  ! is_current || return 0
  registry=${registry:-$(sed -n 's/^registry //p' "$root/locks/images")}
  is_registry "$registry" || die 2 "$registry is not the name of a registry" "NIXOS_IMAGE_REGISTRY=HOST[:PORT]/PATH, or none"
  find_cpu && grep "^$cpu " "$root/locks/images" > "$state/pinned" || { say "locks/images has no images for this CPU: they are built"; return 0; }
  base_id=$(awk '$3 == "nixos-image-base" { print $4; exit }' "$state/pinned")
  made=$(source_state)
  if ! is_id "$base_id" || [ "$(cut -d ' ' -f 2 "$state/pinned" | sort -u)" != "$made" ]; then
    say "locks/images has the images of other files than this checkout's: they are built"
    return 0
  fi
  pull_pinned
}

# is_registry NAME: whether it is a registry, with or without a path, and neither an option nor a URL
is_registry() { case $1 in '' | [!a-z0-9]* | *[!a-z0-9._:/-]* | *//* | */) return 1 ;; esac; }

# is_word WORD ARGUMENTS...: whether one of ARGUMENTS is WORD
is_word() {
  sought=$1
  shift
  for word; do [ "$word" != "$sought" ] || return 0; done
  return 1
}

# is_current: whether this checkout's images were built or pulled before
is_current() {
  ask image inspect --format '{{.Id}}' $base && base_id=$(cat "$state/said") && is_id "$base_id" || return
  ask image inspect --format '{{index .Config.Labels "org.nixos-image.source"}}' $orchestrator || return
  case $(cat "$state/said") in "$(source_state) "*) ;; *) return 1 ;; esac
}

# pull_pinned: pulls the images of $state/pinned by their digests, and gives them their names when all are what they should be
pull_pinned() {
  if pull_each; then
    while read -r cpu sum name id digest; do
      ask tag "$id" "$name" || die 3 "the image $name cannot be tagged" "restart Docker, then call run.sh again; ./run.sh doctor examines Docker"
    done < "$state/pinned"
  fi
  forget_pulled
}

# pull_each: pulls the images of $state/pinned; says why if one is not to be had, or not what it should be. What it pulls, unless it was
# there before, is listed in $state/pulled.
pull_each() {
  while read -r cpu sum name id digest; do
    is_published "$name" && is_id "$id" && is_id "$digest" || { say "a line of locks/images is not as it should be: images are built"; return 1; }
    has_image "$(place_of "$name")@$digest" || echo "$(place_of "$name")@$digest" >> "$state/pulled" || no_room
    docker_works "pulling $name" client pull --quiet "$(place_of "$name")@$digest" || {
      end_if_stopped "the pull of $name"
      say "$registry does not give $name ($(tail -n 1 "$state/log")): images are built"
      return 1
    }
    ask image inspect --format '{{.Id}}' "$(place_of "$name")@$digest"
    [ "$(cat "$state/said")" = "$id" ] || { say "the image $name of $registry is another one than locks/images says: images are built"; return 1; }
  done < "$state/pinned"
}

# forget_pulled: removes what pull_each has pulled. An image that has got its name stays by that.
forget_pulled() {
  [ -s "$state/pulled" ] || return 0
  while read -r reference; do
    is_silent || regardless ask_within "$heavy" rmi "$reference"
  done < "$state/pulled"
  rm "$state/pulled"
}

is_published() { case " $published " in *" $1 "*) ;; *) return 1 ;; esac; }

# place_of NAME: prints the repository of the image in the registry
place_of() { printf %s "$registry/${1%%:*}"; }

# push_images: pushes the images of this checkout to $registry and writes locks/images. Its lines for other CPUs stay: run.sh sees
# whether they are of the same files.
push_images() {
  find_cpu || die 3 "Docker does not tell which CPU it has" "docker info shows it (Architecture); ./run.sh doctor examines Docker"
  : > "$state/pinned"
  for name in $published; do
    ask image inspect --format '{{.Id}}' "$name"
    id=$(cat "$state/said")
    is_id "$id" || die 3 "the image $name is missing" "run it again"
    tag=$(place_of "$name"):$cpu-$(printf %.16s "$source")
    ask tag "$id" "$tag" || die 3 "$tag is no name that Docker takes: $(tail -n 1 "$state/log")"
    docker_works "pushing $name" client push --quiet "$tag" || {
      end_if_stopped "the push of $name"
      pushed=$(tail -n 1 "$state/log")
      ask_long rmi "$tag" || :
      die 11 "$registry does not take $name: $pushed" "docker login ${registry%%/*}"
    }
    ask image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$id"
    digest=$(sed -n "s|^$(place_of "$name")@||p" "$state/said" | tail -n 1)
    ask_long rmi "$tag" || :
    is_id "$digest" || die 3 "Docker does not tell the digest of $name in $registry" "restart Docker, then call run.sh again; ./run.sh doctor examines Docker"
    printf '%s %s %s %s %s\n' "$cpu" "$source" "$name" "$id" "$digest" >> "$state/pinned" || no_room
  done
  {
    echo "registry $registry"
    if [ -f "$root/locks/images" ]; then grep -v -e "^registry " -e "^$cpu " "$root/locks/images"; fi
    cat "$state/pinned"
  } > "$state/new" || no_room
  cp "$state/new" "$root/locks/.images" && mv -f "$root/locks/.images" "$root/locks/images" \
    || { plain < "$state/new" >&2; die 8 "$root/locks/images cannot be written" "write the lines above to it"; }
  say "the images are in $registry; locks/images has their digests: commit it"
}
