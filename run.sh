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

# Variables shared by the files of caller/. Any other variable belongs to one function and the functions that it calls.
state=             # temporary folder of this process: logs, lists of files, a git folder
columns=0          # the terminal's width, 0 if stderr is not a terminal
stopped=           # the signal that was received: INT or TERM
container=         # the container that signals are sent to, if any
child=             # the background process that await waits for
asking=            # 1 while a question to Docker is asked: its process may be killed
patience=          # seconds that Docker has for an answer
heavy=             # seconds that Docker has for work on disks
beat=              # seconds between checks, during long work, that Docker still answers
listed=            # names or ids that Docker has listed
hasher=            # command that prints SHA-256 sums
tar_sends=         # tar flags that keep file names unchanged
tar_holes=         # tar flag that packs sparse files without their holes
nixpkgs=           # absolute path of the folder that NIX_PATH names as nixpkgs
appliance=         # absolute path of the appliance.toml that describes the images, if there is one
ca_bundle=         # absolute path of the caller's CA bundle
socket=            # path of Docker's socket on the engine's host
userns=            # Docker option that maps the orchestrator's root to the host's root (userns-remap)
base_id=           # id of the base image: its name may be given to another image at any time
orchestrator_id=   # id of the orchestrator's image
source=            # checksum of the checkout
run=               # ID of the run, twelve hexadecimal digits
mode=streams       # connection to the orchestrator: streams (of files), or terminal
then_boot=         # 1 if the first image is booted on the terminal afterwards
out=               # output folder
out_kib=           # free KiB in the output folder
modules=           # 1 while a folder is sent with its submodules
over=              # name of the one received lock that belongs above the output folder
force=             # 1 if files in the output folder that no run made may be replaced
lock=              # lock of the output folder, while this run holds it
down=              # 1 for `down` and `compose down`, which remove everything
how=run            # Docker command that makes the orchestrator's container: run, or create (it is started later)
mounted=           # 1 if the run's work volume may exist

# Use Docker's classic builder: its cache consists of images, which `down --rmi all` removes.
export DOCKER_BUILDKIT=0
# Git Bash must not convert container paths to Windows paths; macOS' tar must not add its own files.
export MSYS_NO_PATHCONV=1 COPYFILE_DISABLE=1

. "$root/caller/say.sh"
. "$root/caller/help.sh"
. "$root/caller/signals.sh"
. "$root/caller/engine.sh"
. "$root/caller/docker.sh"
. "$root/caller/base.sh"
. "$root/caller/sums.sh"
. "$root/caller/images.sh"
. "$root/caller/named.sh"
. "$root/caller/appliance.sh"
. "$root/caller/environment.sh"
. "$root/caller/orders.sh"
. "$root/caller/send.sh"
. "$root/caller/repository.sh"
. "$root/caller/commit.sh"
. "$root/caller/receive.sh"
. "$root/caller/place.sh"
. "$root/caller/lock.sh"
. "$root/caller/work.sh"
. "$root/caller/forget.sh"

main() {
  exec 3<&0
  if [ -t 2 ]; then columns=$(stty size 2> /dev/null < /dev/tty | cut -d ' ' -f 2); columns=${columns:-80}; fi
  state=$(mktemp -d "${TMPDIR:-/tmp}/nixos-image-$$.XXXXXX") && state=$(CDPATH='' cd -- "$state" && pwd) && : > "$state/mark" || exit 2
  trap 'forget_run; rm -rf "$state"' EXIT
  ca_bundle=${SSL_CERT_FILE:-${NIX_SSL_CERT_FILE:-}}
  if [ -r "${ca_bundle:-/}" ] && [ -f "$ca_bundle" ]; then absolute "$ca_bundle"; ca_bundle=$absolute; else ca_bundle=; fi
  find_nixpkgs
  forget_dead
  answer "$@"
  refuse_passwords
  find_appliance "$@"
  find_docker
  find_hasher
  find_tar
  find_socket
  case "${1:-} ${2:-}" in "down "* | "compose down") down=1 ;; esac
  [ -z "$down" ] || has_image $orchestrator || say "building an image first, which checks binfmt_misc for entries of dead runs"
  ensure_base
  if [ "${1:-} ${2:-}" = "test --hosts" ]; then
    shift 2
    NIXOS_IMAGE_SOURCE=$(source_state) "$root/tests/simulated_hosts/run.sh" "$@"
    exit
  fi
  ensure_images
  : > "$state/send" && : > "$state/trees" && : > "$state/whole" && : > "$state/kept" && : > "$state/commits"
  create_store || die 3 "Docker cannot create a volume" "docker volume create test shows why"
  new_run
  container=nixos-image-$run-prepare
  { trap '' HUP TERM; start -- prepare "$@" > "$state/orders"; } &
  await_client $! || {
    code=$?
    end_if_stopped "the start"
    heed_end
    [ "$code" != 125 ] || die 3 "Docker could not start the orchestrator" \
      "see Docker's message above; if the socket on the engine's host is not $socket, set NIXOS_IMAGE_SOCKET"
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
  [ $code != 0 ] || heed_end
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
