# Builds the orchestrator's image from the checkout.
# shellcheck shell=sh

# source_state: prints a checksum of all inputs of the orchestrator's image; an image with this label is up to date. It is the
# SHA-256 of a list: names and checksums of files, which of them are programs, the base image's id, the CA bundle's checksum.
source_state() {
  (
    cd "$root" || exit
    {
      # shellcheck disable=SC2046,SC2086  # names without blanks, a command's words
      find $(parts) $left_out -o -type f -exec $hasher {} + | sed 's/^\([0-9a-f]*\) [ *]/\1 /' | LC_ALL=C sort -k 2
      # shellcheck disable=SC2046,SC2086  # names without blanks
      find $(parts) $left_out -o -type f -perm -100 -print | sed 's/^/program /' | LC_ALL=C sort
      echo "base $base_id"
      [ -z "$ca_bundle" ] || echo "certificates $(checksum "$ca_bundle")"
    } | put_sum
  )
}

# find expression that excludes Python's cache folders, and the digests of images (locks/images), which are known when they are made
left_out='( -name __pycache__ -o -name images ) -prune'

# parts: prints the files and folders of the checkout that images are made of.
parts() {
  for part in Dockerfile.boot Dockerfile.builder Dockerfile.qemu-setup Dockerfile.runtime Dockerfile.test Dockerfile.worker compose.yaml flake.lock locks nix \
    orchestrator pyproject.toml; do
    [ ! -e "$root/$part" ] || printf './%s ' "$part"
  done
}

# other_parts: prints the checkout's files that are in no container image; not config/, which is the user's own
other_parts() {
  for part in .ci .dockerignore .editorconfig .env .gitattributes .github .pre-commit-config.yaml CHANGELOG.md CONTRIBUTING.md LICENSE README.md action.yml \
    benchmarks caller docs flake.nix mkdocs.yml run.sh templates tests; do
    [ ! -e "$root/$part" ] || printf './%s ' "$part"
  done
}

# context: writes the build context as a tar stream: the checkout's parts and the caller's CA bundle (or an empty file). They are
# copied to one folder first, because not every tar supports two folders or excludes. What source_state does not count is left out.
context() {
  rm -rf "$state/context"
  mkdir "$state/context"
  # shellcheck disable=SC2046,SC2086 # names without spaces
  (cd "$root" && cp -RPp $(parts) "$state/context") \
    && find "$state/context" -type d -exec chmod u+w {} + \
    && find "$state/context" \( $left_out -o ! -type d ! -type f \) -exec rm -rf {} + || return
  : > "$state/context/ca-bundle.crt"
  [ -z "$ca_bundle" ] || cat "$ca_bundle" > "$state/context/ca-bundle.crt"
  for_everybody "$state/context" && tar -cf - -C "$state/context" .
}

# for_everybody FOLDER: lets every user read what is in the FOLDER, and execute what its owner can. In images it is root's, and the
# builder's user needs it; a checkout that was made with umask 077 is its owner's alone.
for_everybody() { chmod -R u=rwX,go=rX "$1"; }

# runtime_files: copies what the image of Dockerfile.runtime is made of to $state/runtime
runtime_files() {
  rm -rf "$state/runtime"
  mkdir "$state/runtime"
  (cd "$root/orchestrator/shared" && cp dpkg.cfg packages runtime.sh "$root/locks/agents.txt" "$root/locks/orchestrator.txt" "$state/runtime") || return
  : > "$state/runtime/ca-bundle.crt"
  if [ -n "$ca_bundle" ]; then cat "$ca_bundle" > "$state/runtime/ca-bundle.crt" || return; fi
  for_everybody "$state/runtime"
}

# runtime_state: prints a checksum of the files in $state/runtime
runtime_state() {
  cat "$root/Dockerfile.runtime" "$state/runtime/"* | put_sum
}

# build_runtime: makes the image of Dockerfile.runtime and writes its id to $state/id. Where run.sh made the base image, that is it,
# unless the files that it was made of have changed since. The image has no label of the checkout's state: as the parent of other
# images it must not change with it.
build_runtime() {
  runtime_files || return
  made=$(client image inspect --format "{{.Config.WorkingDir}} {{index .Config.Labels \"$runtime_label\"}}" "$base_id") || return
  plain=$base_id start=plain
  case $made in
    "/opt/nixos-image $(runtime_state)") client tag "$base_id" "$runtime" && printf %s "$base_id" > "$state/id"; return ;;
    "/opt/nixos-image "*) plain=scratch start=$base_id ;;
  esac
  # The Dockerfile is not one of the files that are copied into the image.
  printf 'Dockerfile\n.dockerignore\n' > "$state/runtime/.dockerignore" && cp "$root/Dockerfile.runtime" "$state/runtime/Dockerfile" || return
  tar -cf - -C "$state/runtime" . | build_image "$runtime" --build-arg BASE="$plain" --build-arg START="$start"
}

# build_orchestrator: makes the orchestrator's image of the image that build_runtime has made: by its id, because another checkout
# may have given its name to another image. The files are unpacked and compiled in one container, which becomes the image: in a
# build each file, each program and each label is a step, and Docker's storage driver may walk the whole image for a step. One label
# has the parent's id, too, for all other images. An image has its container's variables. Docker's client sets those of the proxies that
# ~/.docker/config.json names, with their passwords, unless options set them.
build_orchestrator() {
  parent=$(cat "$state/id")
  is_id "$parent" || return
  # shellcheck disable=SC2046,SC2086  # options are split on purpose
  context | client run --interactive --name "$maker" $(printf ' --env %s=' $proxies) --network none --security-opt no-new-privileges \
    --entrypoint sh "$parent" -c 'tar -xf - --no-same-owner && exec python3 -m compileall -q -j 2 orchestrator' \
    && client commit --change "LABEL org.nixos-image.source=\"$source $parent\"" --change 'ENTRYPOINT ["python3", "-m"]' --change 'CMD []' \
      "$maker" "$orchestrator" > "$state/id"
}

# variables of proxies that Docker's client may set in a container
proxies='HTTP_PROXY http_proxy HTTPS_PROXY https_proxy FTP_PROXY ftp_proxy NO_PROXY no_proxy ALL_PROXY all_proxy'

# forget_maker: removes the container that build_orchestrator has made
forget_maker() {
  [ -n "$maker" ] || return 0
  is_silent || regardless ask_within "$heavy" rm --force "$maker"
  maker=
}

# build_image NAME OPTIONS...: builds the image NAME of the context on stdin and writes its id to $state/id
build_image() {
  name=$1
  shift
  client build "$@" --iidfile "$state/id" --tag "$name" \
    --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL --build-arg PIP_TRUSTED_HOST --build-arg HTTP_PROXY \
    --build-arg HTTPS_PROXY --build-arg NO_PROXY --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy -
}

# refuse_passwords: dies if a package index has a password. Images get it as an argument, containers as a variable.
refuse_passwords() {
  ! printf '%s\n' "${PIP_INDEX_URL:-}" "${PIP_EXTRA_INDEX_URL:-}" | grep -q '://[^/]*@' \
    || die 2 "PIP_INDEX_URL, PIP_EXTRA_INDEX_URL: a password would stay in an image's history" "use an index without a password"
}

# ensure_images: builds the orchestrator's image if it is old; sets $source (checksum of the checkout) and $orchestrator_id.
ensure_images() {
  source=$(source_state)
  ask image inspect --format '{{.Id}} {{index .Config.Labels "org.nixos-image.source"}}' $orchestrator
  found=$(cat "$state/said")
  orchestrator_id=${found%% *}
  case ${found#* } in "$source "*) ! is_id "$orchestrator_id" || return 0 ;; esac
  maker=nixos-image-make-$(random 6)
  docker_works "building the appliance" build_runtime && docker_works "building the orchestrator" build_orchestrator || {
    end_if_stopped "the building of images"
    last_words 25
    die 3 "the orchestrator's image cannot be built" "see Docker's lines above; the usual cause is an unreachable mirror"
  }
  forget_maker
  orchestrator_id=$(cat "$state/id")
  is_id "$orchestrator_id" || die 3 "Docker does not print the id of the orchestrator's image" "restart Docker, then call run.sh again; ./run.sh doctor examines Docker"
}
