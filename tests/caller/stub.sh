# Sourced after lib.sh by tests without an engine: runs run.sh with a fake docker program.
# shellcheck shell=sh disable=SC2154  # the variables are lib.sh's

# Fake docker program. It also plays the orchestrator: its orders come from the file `orders`, its stream from `stream`. Docker's
# lists come from `listed`, its facts from `info`; where `no-start` is, a writer of a disk ends at once with the code that it has; received files go to `sent`, removals to `removed`, the content of an appliance.toml to `text`. What `deed.sh`
# says is done before the orders are given.
mkdir "$work/bin"
cat > "$work/bin/docker" << 'EOF'
#!/bin/sh
here=$(dirname -- "$(dirname -- "$0")")
case "$*" in
  version*) echo linux ;;
  *' orchestrator prepare'*) printf %s "${NIXOS_IMAGE_APPLIANCE_TEXT-}" > "$here/text"; echo "$*" > "$here/prepared"
    [ ! -e "$here/deed.sh" ] || . "$here/deed.sh"
    cat "$here/orders" ;;
  run*' orchestrator flash '*) echo "$*" > "$here/started"; [ ! -e "$here/no-start" ] || exit "$(cat "$here/no-start")"; cat > "$here/sent" ;;
  run*' orchestrator'*) echo "$*" > "$here/started"; cat > "$here/sent"; cat "$here/stream" ;;
  ps* | network\ ls* | volume\ ls* | images*) cat "$here/listed" ;;
  rm* | network\ rm* | volume\ rm*) echo "$*" >> "$here/removed" ;;
  *org.nixos-image.source*) echo "sha256:$(printf %064d 2) $(cat "$here/source") sha256:$(printf %064d 1)" ;;
  'image inspect --format {{.Id}} '*) echo "sha256:$(printf %064d 1)" ;;
  info*MemTotal*) cat "$here/info" ;;
esac
EOF
chmod +x "$work/bin/docker"
# `tar` is the program that NIXOS_IMAGE_TEST_TAR names.
if [ -n "${NIXOS_IMAGE_TEST_TAR:-}" ]; then
  words=${NIXOS_IMAGE_TEST_TAR#"${NIXOS_IMAGE_TEST_TAR%% *}"}
  printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v "${NIXOS_IMAGE_TEST_TAR%% *}")$words" > "$work/bin/tar"
  chmod +x "$work/bin/tar"
fi
# in_parts FUNCTION ARGUMENTS...: runs a function of caller/ on the checkout at $root
in_parts() {
  mkdir -p "$work/state"
  PATH="$work/bin:$PATH" root=${root:-$project} state="$work/state" ca_bundle=${bundle:-} base_id=${base_id:-sha256:$(printf %064d 1)} sh -uc '
    for part in say sums images; do . "$root/caller/$part.sh"; done
    stopped=
    find_hasher
    "$@"' sh "$@"
}
# With this checksum the fake docker says that the orchestrator's image is up to date.
in_parts source_state > "$work/source"
: > "$work/stream"
: > "$work/listed"
: > "$work/info"
: > "$work/orders"

# order WORD...: adds an order of the orchestrator to run.sh
order() (
  IFS=$(printf '\t')
  printf '%s\n' "$*" >> "$work/orders"
)

# run_sh ARGUMENTS...: runs run.sh for at most a minute, with the shell that NIXOS_IMAGE_TEST_SHELL names
# shellcheck disable=SC2086  # a command's words
run_sh() { SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$PATH" timeout 60 ${NIXOS_IMAGE_TEST_SHELL:-} "$project/run.sh" "$@"; }

# fake_docker: makes another fake docker program, of an x86_64 engine: standard input has what else it answers, as cases of the shell
fake_docker() {
  {
    cat << 'EOF'
#!/bin/sh
here=$(dirname -- "$(dirname -- "$0")")
case "$*" in
  version*) echo linux ;;
  *' orchestrator prepare'*) cat "$here/orders" ;;
EOF
    cat
    echo "  info*Architecture*) echo x86_64 ;;"
    echo "esac"
  } > "$work/bin/docker"
}

# sends OPTION PATH: runs run.sh with an order to send PATH with its surroundings; --modules means --flake, with submodules
sends() {
  : > "$work/orders"
  : > "$work/sent"
  case $1 in
    -c) order send_tree --configuration "$2" ;;
    --modules) order send_modules --flake "$2" && set -- --flake "$2" ;;
    *) order send_tree "$1" "$2" ;;
  esac
  run_sh "$1" "$2"
}

# sent NAME...: whether exactly these files and links were sent from $folder
sent() {
  tar -tf "$work/sent" | grep -v '/$' | grep -vxF .trees | sed -n "s|^\./${folder#/}/\(\./\)*||p" | sort > "$work/names"
  printf '%s\n' "$@" | sort | diff - "$work/names" >> "$work/err"
}
