#!/bin/sh
# Bootable NixOS images with nothing but Docker. See README.md; `./run.sh help` lists what it can do.
#
# This script does what only the caller's side can do: it finds Docker and a base image, builds the orchestrator's image,
# sends it the caller's files as a tar stream, and takes the images from another. Its parts are in caller/, a noun each; all
# else is in orchestrator/.
set -u

# The checkout, whatever links lead to this file.
self=$0
while [ -L "$self" ]; do
  target=$(readlink "$self") || exit 2
  case $target in /*) self=$target ;; *) self=$(dirname -- "$self")/$target ;; esac
done
root=$(CDPATH='' cd -- "$(dirname -- "$self")" && pwd) || exit 2

# What things are called.
base=nixos-image-base
runtime=nixos-image-runtime
orchestrator=nixos-image-orchestrator
upstream=$(cat "$root/locks/base")
label=org.nixos-image=true
engine_label=org.nixos-image.engine
tab=$(printf '\t')

# What the parts tell one another. Each other variable is of one function, and of those that it calls.
state=             # a folder of this process' own: logs, lists of files, a git folder
columns=0          # the terminal's width, 0 where stderr is none
stopped=           # the signal that has come: INT or TERM
container=         # who is to be told of it, or
child=             # the process that is waited for
hasher=            # the command that makes SHA-256 sums
tar_sends=         # flags with which tar packs the files as they are, and
tar_holes=         # the one by which it leaves out their holes
ca_bundle=         # the caller's certificates, by their absolute path
socket=            # Docker's socket, as the engine's host names it
userns=            # the option that makes the orchestrator's root the host's
base_id=           # the images that are used,
orchestrator_id=   # which their names may not be a moment later
source=            # the checkout's state, in one word
run=               # the run's twelve digits
mode=streams       # how the orchestrator works: with streams of files, or on the terminal
then_boot=         # whether the first image is booted on the terminal afterwards
out=               # the folder that takes images
out_kib=           # what is free there
above=             # the one file that goes above that folder
down=              # whether all is to be removed: `down`, or `compose down`
how=run            # how the orchestrator's container is made: `run`, or `create`, to be started later
mounted=           # whether there is a volume of the run's own

# Docker's classic builder leaves its cache in images, so `down --rmi all` can remove every trace of it.
export DOCKER_BUILDKIT=0
# Git Bash must not turn container paths into Windows paths; macOS' tar must not add its own files.
export MSYS_NO_PATHCONV=1 COPYFILE_DISABLE=1

. "$root/caller/say.sh"
. "$root/caller/help.sh"
. "$root/caller/signals.sh"
. "$root/caller/docker.sh"
. "$root/caller/base.sh"
. "$root/caller/sums.sh"
. "$root/caller/images.sh"
. "$root/caller/named.sh"
. "$root/caller/orders.sh"
. "$root/caller/send.sh"
. "$root/caller/repository.sh"
. "$root/caller/receive.sh"
. "$root/caller/work.sh"
. "$root/caller/forget.sh"

main() {
  exec 3<&0
  if [ -t 2 ]; then columns=$(stty size 2> /dev/null < /dev/tty | cut -d ' ' -f 2); columns=${columns:-80}; fi
  state=$(mktemp -d) || exit 2
  trap 'forget_run; rm -rf "$state"' EXIT
  ca_bundle=${SSL_CERT_FILE:-${NIX_SSL_CERT_FILE:-}}
  if [ -r "${ca_bundle:-/}" ] && [ -f "$ca_bundle" ]; then absolute "$ca_bundle"; ca_bundle=$absolute; else ca_bundle=; fi
  answer "$@"
  find_docker
  find_hasher
  find_tar
  find_socket
  case "${1:-} ${2:-}" in "down "* | "compose down") down=1 ;; esac
  if [ -n "$down" ] && ! has_image $orchestrator; then
    forget "$@"
    exit 0
  fi
  ensure_base
  if [ "${1:-} ${2:-}" = "test --hosts" ]; then
    shift 2
    NIXOS_IMAGE_SOURCE=$(source_state) "$root/tests/simulated_hosts/run.sh" "$@"
    exit
  fi
  ensure_images
  : > "$state/send" && : > "$state/trees" && : > "$state/whole"
  create_store || die 3 "volumes cannot be created" "run: docker volume create test"
  run=$(new_run)
  container=nixos-image-$run-prepare
  start -- prepare "$@" > "$state/orders" || {
    code=$?
    end_if_stopped "the start"
    [ "$code" != 125 ] || die 3 "Docker could not start the orchestrator" \
      "see Docker's words above; if the engine's socket is not $socket on its own host, set NIXOS_IMAGE_SOCKET"
    exit "$code"
  }
  container=
  obey "$@"
  end_if_stopped "the start"
  mounted=1
  case $mode in
    streams) run_streams "$@" ;;
    *) run_terminal "$@" ;;
  esac
  code=$?
  forget_run
  [ -z "$down" ] || [ $code != 0 ] || forget "$@"
  case $stopped in
    INT) [ $code != 0 ] || code=130 ;;
    TERM) [ $code != 0 ] || code=143 ;;
  esac
  if [ -n "$then_boot" ] && [ $code = 0 ] && [ -s "$state/image" ]; then
    image=$(cat "$state/image")
    rm -rf "$state"
    exec "$root/run.sh" boot "$image" <&3
  fi
  exit $code
}

main "$@"
