# The orchestrator's image, which is made of the checkout.
# shellcheck shell=sh

# The state in one word of what the orchestrator's image is made of; an image that has it as a label is up to date. It is the
# sum of a list: the files by their names, what is in each, and what else the image is made of.
source_state() {
  (
    cd "$root" || exit
    {
      # shellcheck disable=SC2046,SC2086  # names without blanks, a command's words
      find $(parts) $left_out -o -type f -exec $hasher {} + | sed 's/^\([0-9a-f]*\) [ *]/\1 /' | LC_ALL=C sort -k 2
      echo "base $base_id"
      [ -z "$ca_bundle" ] || echo "certificates $(checksum "$ca_bundle")"
    } > "$state/manifest"
    checksum "$state/manifest"
  )
}

# Names of folders that Python makes.
left_out='-name __pycache__ -prune'

# The files and folders of the checkout that images are made of.
parts() {
  for part in Dockerfile Dockerfile.boot Dockerfile.builder Dockerfile.qemu-setup Dockerfile.test compose.yaml flake.lock locks nix \
    orchestrator pyproject.toml; do
    [ ! -e "$root/$part" ] || printf './%s ' "$part"
  done
}

# The rest of the project's files, which no image has. config/ is the user's.
other_parts() {
  for part in .ci .dockerignore .editorconfig .gitattributes .github .pre-commit-config.yaml CHANGELOG.md CONTRIBUTING.md LICENSE README.md \
    benchmarks caller docs flake.nix run.sh tests; do
    [ ! -e "$root/$part" ] || printf './%s ' "$part"
  done
}

# The build context as a tar stream: the checkout and, beside it, the caller's CA bundle (or an empty file). It is copied
# before: not every tar knows two folders, or names to leave out.
context() {
  rm -rf "$state/context"
  mkdir "$state/context"
  (
    cd "$root" || exit
    # shellcheck disable=SC2016,SC2046,SC2086  # another shell's program; names without blanks
    find $(parts) $left_out -o -type f -exec sh -c '
      into=$1
      shift
      for file; do
        [ -d "$into/${file%/*}" ] || mkdir -p "$into/${file%/*}"
        cp -p "$file" "$into/$file" || exit
      done' sh "$state/context" {} +
  ) || return
  : > "$state/context/ca-bundle.crt"
  [ -z "$ca_bundle" ] || cat "$ca_bundle" > "$state/context/ca-bundle.crt"
  tar -cf - -C "$state/context" .
}

# build_image TARGET NAME [LABEL]: from the checkout; its id is in $state/id
build_image() {
  # The runtime is a parent of other images: it must not change with each state of the checkout.
  context | docker build ${3:+--label "$3"} --build-arg BASE="$base_id" --iidfile "$state/id" \
    --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL --build-arg PIP_TRUSTED_HOST --build-arg HTTP_PROXY \
    --build-arg HTTPS_PROXY --build-arg NO_PROXY --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy --target "$1" --tag "$2" -
}

# Sets $source, the state of the checkout, and $orchestrator_id.
ensure_images() {
  source=$(source_state)
  found=$(docker image inspect --format '{{.Id}} {{index .Config.Labels "org.nixos-image.source"}}' $orchestrator 2> /dev/null)
  orchestrator_id=${found%% *}
  [ "${found#* }" != "$source" ] || ! is_id "$orchestrator_id" || return 0
  ! printf '%s\n' "${PIP_INDEX_URL:-}" "${PIP_EXTRA_INDEX_URL:-}" | grep -q '://[^/]*@' \
    || die 2 "PIP_INDEX_URL, PIP_EXTRA_INDEX_URL: a password would stay in an image's history" "use an index that takes none"
  with_life 7200 "building the appliance" build_image runtime $runtime \
    && with_life 7200 "building the orchestrator" build_image orchestrator $orchestrator "org.nixos-image.source=$source" || {
    end_if_stopped "the building of images"
    last_words 25
    die 3 "the orchestrator's image cannot be built" "the lines above are Docker's; an unreachable mirror is the usual cause"
  }
  orchestrator_id=$(cat "$state/id")
  is_id "$orchestrator_id" || die 3 "Docker does not tell the id of what it has built"
}
