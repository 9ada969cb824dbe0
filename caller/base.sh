# Gets the base image: a local one, else from the registry, else made from Debian's archive.
# shellcheck shell=sh

# ensure_base: gets the base image and sets $base_id.
ensure_base() {
  get_base
  ask image inspect --format '{{.Id}}' $base && base_id=$(cat "$state/said") && is_id "$base_id" || die 3 "Docker does not print the id of $base" "restart Docker, then call run.sh again; ./run.sh doctor examines Docker"
}

get_base() {
  has_image $base && return
  if has_image "$upstream"; then
    ask tag "$upstream" $base || die 3 "$upstream cannot be tagged" "restart Docker, then call run.sh again; ./run.sh doctor examines Docker"
    return
  fi
  if docker_works "pulling $upstream" client pull --quiet "$upstream"; then
    ask tag "$upstream" $base && ask_long rmi "$upstream" || die 3 "$upstream cannot be tagged" "restart Docker, then call run.sh again; ./run.sh doctor examines Docker"
    return
  fi
  end_if_stopped "the pull of $upstream"
  pull_error=$(tail -n 1 "$state/log")
  say "the base image cannot be pulled: making it from Debian's archive"
  docker_works "making the base image" make_base || {
    end_if_stopped "the making of the base image"
    last_words
    die 3 "there is no base image: the registry cannot be reached ($pull_error), and making one failed" \
      "docker load a $upstream, or run this on a Debian with apt"
  }
}

# make_base: makes the image that all others are made of (Dockerfile.runtime) at once: its Debian packages in one pass, with
# mmdebstrap (installed, or fetched temporarily) from apt's configured sources, then the rest by runtime.sh in the new file system.
make_base() {
  runtime_files || return
  # shellcheck disable=SC2016  # mmdebstrap's shell knows both
  made_of=$state/runtime make_file_system --customize-hook='mkdir -p "$1/usr/local/share/nixos-image"' \
    --customize-hook='cp "$made_of"/* "$1/usr/local/share/nixos-image"' --customize-hook="$forget_variables"'
      exec chroot "$1" sh /usr/local/share/nixos-image/runtime.sh' || return
  import_base --change "LABEL $runtime_label=$(runtime_state)"
}

# shell program that unsets variables which mean files of this host; a Docker build would not have them, either
# shellcheck disable=SC2016  # another shell's program
forget_variables='for name in $(env | sed -n "s/^\([A-Za-z_][A-Za-z_0-9]*\)=.*/\1/p"); do
  case $name in PATH | HOME | PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_TRUSTED_HOST | *_PROXY | *_proxy) ;; *) unset "$name" ;; esac
done
'

# make_file_system OPTIONS...: makes $state/base.tar with mmdebstrap's OPTIONS
make_file_system() {
  mmdebstrap=$(command -v mmdebstrap) || {
    command -v apt-get > /dev/null && command -v perl > /dev/null || { echo "no mmdebstrap, no apt"; return 1; }
    (cd "$state" && apt-get download -o APT::Sandbox::User=root mmdebstrap && dpkg-deb -x mmdebstrap_*.deb mmdebstrap) || return 1
    mmdebstrap=$state/mmdebstrap/usr/bin/mmdebstrap
    PATH=$PATH:$state/mmdebstrap/usr/bin # mmdebstrap calls its own helper program
  }
  mirror=$(debian_mirror Debian) && security=$(debian_mirror Debian-Security) || { echo "apt has no Debian source"; return 1; }
  packages=$(sed '/^#/d; /^$/d' "$root/orchestrator/shared/packages" | tr '\n' ',')
  perl "$mmdebstrap" --variant=minbase --include="$packages" --aptopt='Acquire::Languages "none"' --dpkgopt="$root/orchestrator/shared/dpkg.cfg" "$@" \
    trixie "$state/base.tar" "deb $mirror trixie main" "deb $mirror trixie-updates main" "deb $security trixie-security main"
}

# import_base OPTIONS...: imports $state/base.tar with docker's OPTIONS and the metadata of Dockerfile.runtime's stage `plain`
import_base() {
  sed -n '/ AS plain$/,/ AS runtime$/ { /^LABEL /p; /^ENV /p; /^WORKDIR /p; /^ENTRYPOINT /p; }' "$root/Dockerfile.runtime" > "$state/metadata"
  while IFS= read -r line; do set -- "$@" --change "$line"; done < "$state/metadata"
  client import "$@" "$state/base.tar" "$base"
}

debian_mirror() {
  # shellcheck disable=SC2016  # apt's own placeholders
  apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2> /dev/null \
    | awk -v label="$1" '$1 == label { sub("/$", "", $2); print $2; found = 1; exit } END { exit !found }'
}
