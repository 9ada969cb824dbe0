#!/bin/sh
# Makes bootable NixOS images with nothing but Docker. See README.md; `./run.sh help` lists all verbs.
#
# This script does what only the caller's host can do: it finds Docker and a base image, builds the orchestrator's image, sends
# the caller's files to it as a tar stream, and receives images as a tar stream. Its parts are in caller/; everything else is in
# orchestrator/.
set -u

# Set $root to the checkout; resolve links to this script.
self=$0
while [ -L "$self" ]; do
  target=$(readlink "$self") || exit 2
  case $target in /*) self=$target ;; *) self=$(dirname -- "$self")/$target ;; esac
done
root=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd) || exit 2

# Names of images and labels.
base=nixos-image-base
runtime=nixos-image-runtime
orchestrator=nixos-image-orchestrator
upstream=$(cat "$root/locks/base")
label=org.nixos-image=true
runtime_label=org.nixos-image.runtime
engine_label=org.nixos-image.engine
tab=$(printf '\t')

# Use Docker's classic builder: its cache consists of images, which `down --rmi all` removes.
export DOCKER_BUILDKIT=0
# Git Bash must not convert container paths to Windows paths; macOS' tar must not add its own files.
export MSYS_NO_PATHCONV=1 COPYFILE_DISABLE=1

. "$root/caller/variables.sh"
. "$root/caller/say.sh"
. "$root/caller/terminal.sh"
. "$root/caller/help.sh"
. "$root/caller/signals.sh"
. "$root/caller/engine.sh"
. "$root/caller/docker.sh"
. "$root/caller/runs.sh"
. "$root/caller/base.sh"
. "$root/caller/sums.sh"
. "$root/caller/images.sh"
. "$root/caller/registry.sh"
. "$root/caller/named.sh"
. "$root/caller/kit.sh"
. "$root/caller/manifest.sh"
. "$root/caller/load.sh"
. "$root/caller/appliance.sh"
. "$root/caller/outside.sh"
. "$root/caller/builders.sh"
. "$root/caller/environment.sh"
. "$root/caller/person.sh"
. "$root/caller/orders.sh"
. "$root/caller/folder.sh"
. "$root/caller/send.sh"
. "$root/caller/facts.sh"
. "$root/caller/trees.sh"
. "$root/caller/homes.sh"
. "$root/caller/secrets.sh"
. "$root/caller/repository.sh"
. "$root/caller/commit.sh"
. "$root/caller/receive.sh"
. "$root/caller/ours.sh"
. "$root/caller/place.sh"
. "$root/caller/lock.sh"
. "$root/caller/work.sh"
. "$root/caller/forget.sh"
. "$root/caller/disks.sh"
. "$root/caller/image.sh"
. "$root/caller/flash.sh"
. "$root/caller/dd.sh"
. "$root/caller/elsewhere.sh"
. "$root/caller/findings.sh"
. "$root/caller/doctor.sh"
. "$root/caller/alone.sh"
. "$root/caller/bundle.sh"
. "$root/caller/redact.sh"

main() {
  exec 3<&0
  find_terminal
  ! given -q "$@" && ! given --quiet "$@" || quiet=1
  state=$(mktemp -d -- "${TMPDIR:-/tmp}/nixos-image-$$.XXXXXX" 2> /dev/null) && state=$(CDPATH='' cd -- "$state" && pwd) && : > "$state/mark" \
    || die 2 "no folder can be made in ${TMPDIR:-/tmp}" "set TMPDIR to another folder"
  trap 'forget_maker; forget_pulled; forget_run; show_cursor; rm -rf "$state"' EXIT
  find_home
  find_nixpkgs
  forget_dead
  answer "$@"
  [ "${1:-}" != doctor ] || examine_here "$@"
  refuse_passwords
  find_appliance "$@"
  find_builders "$@"
  [ "${1-}" != init ] || find_person
  find_ca_bundle
  need_room
  find_docker
  find_hasher
  find_tar
  find_socket
  case "${1:-} ${2:-}" in "down "* | "compose down") down=1 ;; esac
  [ -z "$down" ] || has_image $orchestrator || say "building an image first, which checks binfmt_misc for entries of dead runs"
  case "${1:-} ${2:-}" in "kit import") check_kit "$@" && load_kit ;; "down "* | "compose down") ;; *) pull_images ;; esac
  ensure_base
  [ "${1:-} ${2:-}" != "test --hosts" ] || run_hosts "$@"
  ensure_images
  : > "$state/send" && : > "$state/secrets" && : > "$state/trees" && : > "$state/whole" && : > "$state/kept" && : > "$state/commits" && : > "$state/mounts" && : > "$state/mounted" && mkdir "$state/.earlier" "$state/.delivered"
  create_store || die 3 "Docker cannot create a volume" "docker volume create test shows why"
  new_run
  [ -z "$examining" ] || hand_findings
  container=nixos-image-$run-prepare
  prepare "$@" || {
    code=$?
    end_if_stopped "the start"
    heed_end
    [ "$code" != 125 ] || not_started
    exit "$code"
  }
  container=
  obey "$@"
  end_if_stopped "the start"
  keep_trees
  [ $mode = flash ] || mounted=1
  case ${examining:+doctor}$mode in
    doctor*) run_doctor "$@" ;;
    flash) flash ;;
    kit) send_kit "$@" ;;
    streams) run_streams "$@" ;;
    asks) run_terminal "$@" && run_streams "$@" ;;
    *) run_terminal "$@" ;;
  esac
  code=$?
  [ -z "$pushes" ] || [ $code != 0 ] || push_images
  case ${debug_shell:+asked}$stopped$code in asked4 | asked6 | asked13) open_shell ;; esac
  forget_run
  [ $code != 0 ] || heed_end
  [ -z "$down" ] || [ $code != 0 ] || forget "$@"
  case $stopped in
    INT) [ $code != 0 ] || code=130 ;;
    TERM) [ $code != 0 ] || code=143 ;;
  esac
  if [ -n "$then_boot" ] && [ $code = 0 ] && [ -s "$state/image" ]; then
    image=$(cat "$state/first" "$state/image" 2> /dev/null | head -n 1)
    rm -rf "$state"
    exec "$root/run.sh" boot "$image" <&3
  fi
  exit $code
}

main "$@"
