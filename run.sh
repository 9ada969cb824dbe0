#!/bin/sh
# Bootable NixOS images with nothing but Docker. See README.md; `./run.sh help` lists what it can do.
#
# This script does what only the caller's side can do: it finds Docker and a base image, builds the orchestrator's image,
# sends it the caller's files as a tar stream, and takes the images from another. All else is in orchestrator/.
# shellcheck disable=SC2317  # functions are called from traps, and by the orchestrator's orders
# shellcheck disable=SC2015  # `a && b || die` means that both must hold: die does not return
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 2
base=nixos-image-base
runtime=nixos-image-runtime
orchestrator=nixos-image-orchestrator
upstream=$(cat "$root/locks/base")
label=org.nixos-image=true
engine_label=org.nixos-image.engine
tab=$(printf '\t')
# Docker's classic builder leaves its cache in images, so `down --rmi all` can remove every trace of it.
export DOCKER_BUILDKIT=0
# Git Bash must not turn container paths into Windows paths; macOS' tar must not add its own files.
export MSYS_NO_PATHCONV=1 COPYFILE_DISABLE=1

# shellcheck source=caller/help.sh
. "$root/caller/help.sh"
# shellcheck source=caller/orders.sh
. "$root/caller/orders.sh"

say() { printf '%s\n' "$*" >&2; }

# plain: what others say, without what steers a terminal
plain() { LC_ALL=C tr -c '[:print:]\n\t' '?'; }

# die CODE MESSAGE [WAY OUT]: the exit codes are those of docs/exit-codes.md
die() {
  case $stopped:$1 in # what a signal has broken is no failure of its own
    INT:130 | TERM:143) ;;
    INT:*) set -- 130 interrupted ;;
    TERM:*) set -- 143 terminated ;;
  esac
  say "error: $2"
  [ $# -lt 3 ] || say "try: $3"
  exit "$1"
}

# --- signals: told to whatever is at work, then the exit code says so ---------------------------------------------------

stopped=
container=
child=

on_signal() {
  stopped=$1
  if [ -n "$container" ]; then
    # The container may be about to start, or its process 1 not listening yet: tell it until it has ended, even if what waits
    # for it has ended first. The orchestrator takes the first signal and ignores the others.
    (
      trap '' HUP TERM
      tries=50
      while [ "$tries" -gt 0 ]; do
        docker kill --signal "$1" "$container" > /dev/null 2>&1 || kill -0 "$child" 2> /dev/null || break
        kill -0 "$child" 2> /dev/null || tries=$((tries - 1))
        sleep 1
      done
    ) &
  elif [ -n "$child" ]; then
    # shellcheck disable=SC2046  # numbers
    kill -TERM $(family "$child") 2> /dev/null
  fi
}

# family PID: it and all processes below it. A function in the background is a shell: what it runs must end, too.
family() {
  ps -A -o pid= -o ppid= 2> /dev/null | awk -v top="$1" '
    { parent[$1] = $2 }
    END { print top; for (p in parent) { for (q = p; q in parent && q != top && q != parent[q]; q = parent[q]); if (q == top && p != top) print p } }'
}
trap 'on_signal INT' INT
trap 'on_signal TERM' TERM HUP

# await PID: its exit code, whatever signals come meanwhile
await() {
  child=$1
  [ -z "$stopped" ] || on_signal "$stopped" # it came before there was anybody to tell
  while :; do
    wait "$1"
    code=$?
    kill -0 "$1" 2> /dev/null || break
  done
  child=
  return "$code"
}

end_if_stopped() {
  case $stopped in
    INT) die 130 "interrupted during $1" ;;
    TERM) die 143 "terminated during $1" ;;
  esac
}

# with_life SECONDS WHAT COMMAND...: runs it, for that long at most, with its output in $state/log and a sign of life every 2
# seconds
with_life() {
  limit=$1 what=$2
  shift 2
  : > "$state/log"
  "$@" >> "$state/log" 2>&1 < /dev/null &
  job=$!
  (
    seconds=0
    while sleep 1 > /dev/null 2>&1 && seconds=$((seconds + 1)) && kill -0 $job 2> /dev/null; do
      if [ $seconds -ge "$limit" ]; then
        echo "it was ended after $limit s" >> "$state/log"
        # shellcheck disable=SC2046  # numbers
        kill -TERM $(family $job) 2> /dev/null
      fi
      if [ "$columns" -gt 0 ]; then
        printf '\r  %s (%s s)' "$what" $seconds >&2
      elif [ $((seconds % 2)) = 1 ]; then
        say "$what ($seconds s)"
      fi
    done
  ) &
  ticker=$!
  await $job
  result=$?
  kill $ticker 2> /dev/null
  wait $ticker 2> /dev/null
  [ "$columns" = 0 ] || printf '\r\033[2K' >&2
  return $result
}

last_words() { tail -n "${1:-15}" "$state/log" | plain >&2; }

# --- Docker ------------------------------------------------------------------------------------------------------------

find_docker() {
  command -v docker > /dev/null || die 3 "docker is not installed" "https://docs.docker.com/get-docker/"
  # An engine that hangs takes the connection and says nothing.
  with_life "${NIXOS_IMAGE_PATIENCE:-60}" "waiting for Docker" docker version --format '{{.Server.Os}}' \
    && grep -qx linux "$state/log" && return # beside warnings
  end_if_stopped "the wait for Docker"
  facts=$(plain < "$state/log")
  case $facts in
    windows) die 3 "Docker runs Windows containers" "switch Docker Desktop to Linux containers" ;;
    *"permission denied"*) die 3 "you may not use Docker" "join the docker group, or use sudo" ;;
    *"Cannot connect"* | *"Is the docker daemon running"* | *"no such file"* | *refused*)
      die 3 "Docker is installed, but not running: $(printf %s "$facts" | tail -n 1)" "start Docker, or set DOCKER_HOST" ;;
    *"it was ended after"*) die 3 "Docker does not answer" "restart it, or give it more than $limit seconds in NIXOS_IMAGE_PATIENCE" ;;
    *) die 3 "docker version failed: $(printf %s "$facts" | tail -n 1)" "run: docker version" ;;
  esac
}

# The socket's path on the engine's side; a remote engine does not tell where it is. It is root's: where containers have other
# users (userns-remap), the orchestrator's must not.
find_socket() {
  endpoint=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2> /dev/null)}
  engine=$(docker info --format '{{.OperatingSystem}} {{.SecurityOptions}}' 2> /dev/null)
  socket=${NIXOS_IMAGE_SOCKET:-/var/run/docker.sock}
  userns=
  case $engine in *name=userns*) userns="--userns host" ;; esac
  case $endpoint in
    unix://*)
      [ "$(uname -s)" = Linux ] && [ -z "${NIXOS_IMAGE_SOCKET:-}" ] || return # elsewhere the engine is in a virtual machine, with paths of its own
      case $engine in *Desktop*) ;; *) socket=${endpoint#unix://} ;; esac
      ;;
  esac
}

has_image() { docker image inspect "$1" > /dev/null 2>&1; }

# A name may be given to another image at any time: what is used is the image that was looked at, by its id.
is_id() {
  case ${1#sha256:} in *[!0-9a-f]*) return 1 ;; esac
  [ "${#1}" = 71 ] || [ "${#1}" = 64 ]
}

# --- the base image: local, else from the registry, else made from Debian's archive -------------------------------------

# Sets $base_id.
ensure_base() {
  get_base
  base_id=$(docker image inspect --format '{{.Id}}' $base) && is_id "$base_id" || die 3 "Docker does not tell the id of $base"
}

get_base() {
  has_image $base && return
  if has_image "$upstream"; then
    docker tag "$upstream" $base || die 3 "$upstream cannot be tagged"
    return
  fi
  if with_life 7200 "pulling $upstream" docker pull --quiet "$upstream"; then
    docker tag "$upstream" $base && docker rmi "$upstream" > /dev/null || die 3 "$upstream cannot be tagged"
    return
  fi
  end_if_stopped "the pull of $upstream"
  pull_error=$(tail -n 1 "$state/log" | plain)
  say "no registry: making the base image from Debian's archive"
  with_life 7200 "making the base image" make_base || {
    end_if_stopped "the making of the base image"
    last_words
    die 3 "there is no base image: the registry cannot be reached ($pull_error), and none could be made here" \
      "docker load a $upstream, or run this on a Debian with apt"
  }
}

# Debian's base system by mmdebstrap, installed or fetched for the moment; apt's own sources say from where.
make_base() {
  mmdebstrap=$(command -v mmdebstrap) || {
    command -v apt-get > /dev/null && command -v perl > /dev/null || { echo "no mmdebstrap, no apt"; return 1; }
    (cd "$state" && apt-get download -o APT::Sandbox::User=root mmdebstrap && dpkg-deb -x mmdebstrap_*.deb mmdebstrap) || return 1
    mmdebstrap=$state/mmdebstrap/usr/bin/mmdebstrap
    PATH=$PATH:$state/mmdebstrap/usr/bin # it calls a filter of its own
  }
  mirror=$(debian_mirror Debian) && security=$(debian_mirror Debian-Security) || { echo "apt has no Debian source"; return 1; }
  perl "$mmdebstrap" --variant=minbase --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    trixie "$state/base.tar" "deb $mirror trixie main" "deb $mirror trixie-updates main" "deb $security trixie-security main" \
    && docker import --change "LABEL $label" "$state/base.tar" "$base"
}

debian_mirror() {
  # shellcheck disable=SC2016  # apt's own placeholders
  apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2> /dev/null \
    | awk -v label="$1" '$1 == label { sub("/$", "", $2); print $2; found = 1; exit } END { exit !found }'
}

# --- our own images ----------------------------------------------------------------------------------------------------

# The state of the checkout in one word: images that carry it as a label are up to date.
source_state() {
  (
    cd "$root" || exit
    parts
    # shellcheck disable=SC2086  # names without blanks
    find $parts -name __pycache__ -prune -o -type f -print
    # shellcheck disable=SC2086
    find $parts -name __pycache__ -prune -o -type f -exec cat {} +
    [ -z "$ca_bundle" ] || cat "$ca_bundle"
    echo "$base_id"
  ) | cksum | tr ' ' -
}

# What belongs to the project, at the top of the checkout: whatever else lies there, images for one, is not looked at.
parts() {
  parts=
  for part in .ci .dockerignore .editorconfig .gitattributes .github .pre-commit-config.yaml CHANGELOG.md CONTRIBUTING.md \
    Dockerfile Dockerfile.boot Dockerfile.builder Dockerfile.qemu-setup LICENSE \
    README.md benchmarks caller compose.yaml docs flake.lock flake.nix locks nix orchestrator pyproject.toml run.sh tests; do
    [ ! -e "$root/$part" ] || parts="$parts $part"
  done
}

# The build context as a tar stream: the checkout and, beside it, the caller's CA bundle (or an empty file).
context() {
  mkdir -p "$state/context"
  if [ -n "$ca_bundle" ]; then cat "$ca_bundle" > "$state/context/ca-bundle.crt"; else : > "$state/context/ca-bundle.crt"; fi
  parts
  # shellcheck disable=SC2086  # names without blanks
  tar -cf - --exclude __pycache__ --exclude tests/nixpkgs -C "$root" $parts -C "$state/context" ca-bundle.crt
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

# --- what the orchestrator may ask of this side (caller/orders.sh) --------------------------------------------------------

send() {
  [ -e "$2" ] || die 2 "$1: $2 does not exist"
  [ -f "$2" ] || die 2 "$1: $2 is not a file"
  [ -r "$2" ] || die 2 "$1: $2 cannot be read"
  send_path "$2"
}

# Names are kept with a zero at their end and given to tar as arguments: what is in a list, each tar reads in its own way.
send_path() {
  printf './%s\0' "${1#/}" >> "$state/send"
}

# What an image's own run has said of it.
send_result() {
  if [ -f "$1" ] && [ -r "$1" ]; then send_path "$1"; fi
}

send_keys() {
  for key in "${HOME:-/}"/.ssh/*.pub; do
    if [ -f "$key" ] && [ -r "$key" ]; then send_path "$key"; fi
  done
}

out_dir() {
  out=$1
  mkdir -p "$out" 2> /dev/null && [ -d "$out" ] && [ -w "$out" ] || die 2 "$out cannot be written to" "choose another with -o"
  out_kib=$(df -Pk "$out" | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p') # devices' names may have blanks
  # Parts of runs whose run.sh is gone: they are named after the run and the process. Another user's process, or another
  # machine's, cannot be seen: then neither its orchestrator may run nor the part be young.
  for part in "$out"/.nixos-image-*.part; do
    [ -d "$part" ] || continue
    pid=${part##*-}
    kill -0 "${pid%.part}" 2> /dev/null && continue
    other=${part##*/.}
    other=$(docker ps -q --filter "name=^${other%-*}\$") && [ -z "$other" ] || continue
    [ -z "$(find "$part" -prune -mmin +10)" ] || rm -rf "$part"
  done
}

# The checkout's locks are what is handed over; that of the flake lies above the others.
out_locks() {
  out_dir "$root/locks"
  above=flake.lock
}

# A file or folder with all that lies beside it: the git repository that it is in, without what git ignores, else its folder.
# nixpkgs and whatever else is only looked into is sent without what is around it.
send_tree() {
  [ -e "$2" ] || die 2 "$1: $2 does not exist"
  [ -f "$2" ] || [ -d "$2" ] || die 2 "$1: $2 is neither a file nor a folder"
  tree=$2
  [ -d "$tree" ] || tree=$(dirname -- "$2")
  : > "$state/found"
  if in_repository "$1" "$tree"; then
    case $1 in --configuration | --flake) find_top "$1" "$2" ;; esac
    not_home "$1"
    git_says ls-files -z --cached --others --exclude-standard > "$state/listed" || git_fails "$1"
    xargs -0 sh -c "$only_files" sh "./${tree#/}" "$(physical "$tree")" < "$state/listed" > "$state/found"
    [ ! -s "$state/found" ] || kib=$( (cd / && xargs -0 du -k) < "$state/found" 2> /dev/null | awk '{ kib += $1 } END { print kib + 0 }')
  else
    not_home "$1"
    printf './%s/.\0' "${tree#/}" > "$state/found"
    kib=$(du -sk "$tree/." 2> /dev/null | awk '{ print $1 }')
  fi
  [ -s "$state/found" ] || die 2 "$1: git ignores all of $tree" "git add what is to be built"
  [ "$kib" -le 2097152 ] || die 2 "$1: $tree has $((kib / 1048576)) GiB, which would all be sent" \
    "put it into a folder of its own, or into a git repository that ignores the rest"
  tr '\0' '\n' < "$state/trees" | grep -qxF -e "$tree" || {
    say "sending $tree: $((kib / 1024)).$((kib % 1024 * 10 / 1024)) MiB"
    printf '%s\0' "$tree" >> "$state/trees"
    cat "$state/found" >> "$state/whole"
  }
}

physical() { (cd -P "$1" && pwd -P); }

# in_repository OPTION FOLDER: whether git tells what belongs to it. Where it should, but cannot, nothing is guessed. Sets
# $above, the repository's top by its real path.
in_repository() {
  above=$(physical "$2")
  while [ ! -e "$above/.git" ] && [ ! -L "$above/.git" ]; do
    [ "$above" != / ] || return 1
    above=$(dirname -- "$above")
  done
  command -v git > /dev/null \
    || die 2 "$1: $2 is in a git repository, but there is no git to say what belongs to it" "install git"
  git_folders "$1"
  own_repository "$1"
  git_says check-ignore -q . > /dev/null
  case $? in
    0) return 1 ;;
    1) ;;
    *) git_fails "$1" ;;
  esac
}

# git_folders OPTION: where the repository at $above keeps its index and, as $common, what all of its worktrees share.
git_folders() {
  git_folder=$above/.git
  if [ -f "$git_folder" ]; then # a submodule's, or another worktree's
    pointer=$(first_line "$git_folder")
    case $pointer in
      'gitdir: /'*) git_folder=${pointer#gitdir: } ;;
      'gitdir: '*) git_folder=$above/${pointer#gitdir: } ;;
    esac
  fi
  common=$git_folder
  if [ -f "$git_folder/commondir" ]; then
    pointer=$(first_line "$git_folder/commondir")
    case $pointer in /*) common=$pointer ;; *) common=$git_folder/$pointer ;; esac
  fi
  [ -d "$git_folder" ] && [ -e "$git_folder/HEAD" ] && [ -d "$common/objects" ] \
    || die 2 "$1: $above/.git leads to no git repository" "remove it, or clone the repository again"
  common=$(physical "$common")
  case $common in *[[:cntrl:]]*) die 2 "$1: the name of $above's git folder has control characters" "rename it" ;; esac
}

first_line() { dd if="$1" bs=4096 count=1 2> /dev/null | head -n 1; }

# own_repository OPTION: a git folder of our own, $state/git, for the files at $above. Somebody else's may name programs that
# git runs (pagers, remotes to fetch what is missing from, monitors), so of that only data is taken: the index, the patterns of
# files to ignore, three settings' values. Its objects, from which a sparse index is read, stay where they are.
own_repository() {
  rm -rf "$state/git"
  mkdir -p "$state/git/objects/info" "$state/git/refs" "$state/git/info"
  echo 'ref: refs/heads/none' > "$state/git/HEAD"
  printf '[core]\n\tbare = false\n\trepositoryformatversion = 1\n' > "$state/git/config"
  printf '%s\n' "$common/objects" > "$state/git/objects/info/alternates"
  [ ! -f "$common/info/exclude" ] || cp "$common/info/exclude" "$state/git/info/exclude"
  for index in "$git_folder/index" "$git_folder"/sharedindex.*; do
    [ -e "$index" ] || [ -L "$index" ] || continue # nothing was ever added, or the index is one file
    is_file "$index" || die 2 "$1: $index is not a file" "put the file itself there"
    cp "$index" "$state/git/" || die 2 "$1: $index cannot be read"
  done
  for config in "$common/config" "$git_folder/config.worktree"; do
    [ -f "$config" ] || continue
    copy_setting "$1" extensions.objectformat
    copy_setting "$1" core.ignorecase --bool
    copy_setting "$1" core.excludesfile --path
  done
}

# copy_setting OPTION NAME [TYPE]: from $config
copy_setting() {
  value=$(git_alone config --file "$config" --no-includes ${3:+"$3"} --get "$2" 2> "$state/words")
  case $? in
    0) ;;
    1) return 0 ;; # it is not there
    *) git_fails "$1" ;;
  esac
  case $2:$value in # the patterns may be no pipe, which would never end
    core.excludesfile:/*) [ -f "$value" ] || return 0 ;;
    core.excludesfile:*) [ -f "$above/$value" ] || return 0 ;;
  esac
  git_alone config --file "$state/git/config" "$2" "$value" > /dev/null 2> "$state/words" || git_fails "$1"
}

# git_says COMMAND...: of the files below $tree, by $state/git; its own words are in $state/words
git_says() { git_alone --work-tree "$above" -C "$(physical "$tree")" "$@" 2> "$state/words"; }

git_fails() {
  die 2 "$1: $tree is in a git repository, but git cannot say what belongs to it: $(tail -n 1 "$state/words")" \
    "see what git status says there"
}

# git by the caller's own configuration and that of $state/git alone. What is relative in the caller's would be looked for in
# the checkout: monitors and hooks. The variables say the same to a git that knows them.
git_alone() (
  cd "$state" || exit
  for variable in $(env | sed -n 's/^\(GIT_[A-Z0-9_]*\)=.*/\1/p'); do
    case $variable in
      GIT_CONFIG_GLOBAL | GIT_CONFIG_SYSTEM | GIT_CONFIG_NOSYSTEM | GIT_EXEC_PATH) ;;
      *) unset "$variable" ;;
    esac
  done
  export GIT_NO_LAZY_FETCH=1 GIT_ALLOW_PROTOCOL=none GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0
  git --no-pager --git-dir "$state/git" -c core.fsmonitor=false -c core.hooksPath=/dev/null "$@" < /dev/null
)

# find_top OPTION PATH: from $tree up to its repository's top, by the name that the caller has used.
find_top() {
  while [ "$(physical "$tree")" != "$above" ]; do
    [ "$tree" != / ] || die 2 "$1: $2 is reached through a link into its repository" "name it by its real path"
    tree=$(dirname -- "$tree")
  done
}

not_home() {
  case $(physical "$tree") in
    / | "$(physical "${HOME:-/}")") die 2 "$1: all of $tree would be sent" "put it into a folder of its own" ;;
  esac
}

# Of the names that git has, relative to a folder that is called $1 and really is $2: those that are there, not below a link
# that has taken a folder's place, and no repositories inside, which are none of this one's files.
# shellcheck disable=SC2016  # another shell's program
only_files='
  name=$1 real=$2 last= good=1
  shift 2
  for file; do
    case $file in */*) folder=/${file%/*} ;; *) folder= ;; esac
    if [ "$folder" != "$last" ]; then
      last=$folder good=
      cd -P "$real$folder" 2> /dev/null && [ "$PWD" = "$real$folder" ] && good=1
    fi
    [ -n "$good" ] || continue
    if [ -L "$real/$file" ] || [ -f "$real/$file" ]; then printf "%s\0" "$name/$file"; fi
  done'

# The store outlives runs; it is labelled as Compose itself labels it for the project of `docker compose up`. One that is there
# stays as it is, with the digits that it was given.
create_store() {
  docker volume create --label $label --label com.docker.compose.project=nixos-image --label "$engine_label=$(random 2)" \
    --label com.docker.compose.volume=store nixos-image-store > /dev/null 2>> "$state/log"
}

# random BYTES: in hexadecimal digits
random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# --- one run -----------------------------------------------------------------------------------------------------------

# Twelve digits. The first four are the engine's, on its store: by them it knows its own runs beside those of another
# engine on this kernel, with which it may share binfmt_misc. A volume that others have made has none.
new_run() {
  digits=$(docker volume inspect --format "{{index .Labels \"$engine_label\"}}" nixos-image-store)
  case $digits in [0-9a-f][0-9a-f][0-9a-f][0-9a-f]) ;; *) digits=0000 ;; esac
  printf %s "$digits" && random 4
}

# start OPTIONS... -- ARGUMENTS...: the orchestrator in its container, with the run's own volume, which `prepare` does not need
start() {
  options=
  while [ "$1" != -- ]; do options="$options $1"; shift; done
  shift
  [ "$1" = prepare ] || options="$options --mount $(work_mount)"
  # shellcheck disable=SC2086  # options are words of our own
  docker "$how" --rm --log-driver none $options $userns --name "$container" --label $label --label "org.nixos-image.run=$run" --network none \
    --security-opt no-new-privileges --pids-limit 4096 \
    --mount "type=bind,source=$socket,target=/var/run/docker.sock" \
    --env NIXOS_IMAGE_RUN="$run" --env NIXOS_IMAGE_CWD="$PWD" --env NIXOS_IMAGE_HOME="${HOME:-/}" --env NIXOS_IMAGE_ROOT="$root" \
    --env NIXOS_IMAGE_COLUMNS="$columns" --env NIXOS_IMAGE_OUT_KIB="$out_kib" --env NIXOS_IMAGE_SOCKET="$socket" \
    --env NIXOS_IMAGE_SOURCE="$source" --env NIXOS_IMAGE_SPARSE="$sparse" --env NIXOS_IMAGE_CA_BUNDLE="$ca_bundle" \
    --env HTTP_PROXY --env HTTPS_PROXY --env NO_PROXY --env http_proxy --env https_proxy --env no_proxy \
    --env PIP_INDEX_URL --env PIP_EXTRA_INDEX_URL --env PIP_TRUSTED_HOST \
    "$orchestrator_id" orchestrator "$@"
}

# The run's volume, which no other run's containers see. The engine makes it with the first container that names it: so it is
# never there without one, and is not taken for a dead run's. Labelled as Compose does, whose services have it, too.
work_mount() {
  printf %s "type=volume,source=nixos-image-work-$run,target=/var/nixos-image,volume-label=$label"
  printf ',volume-label=%s' "org.nixos-image.run=$run" "com.docker.compose.project=nixos-image-$run" com.docker.compose.volume=work
}

# When the run has ended; what is in use stays for the next run or `clean`.
forget_run() {
  [ -z "$mounted" ] || docker volume rm "nixos-image-work-$run" > /dev/null 2>&1
  mounted=
}

# The caller's files, under their own paths. Folders keep their links; the list of them, which may be empty, says at the end
# that all was sent.
pack() {
  # More than one archive is no trouble.
  # shellcheck disable=SC2086  # flags, or none
  [ ! -s "$state/send" ] || xargs -0 tar -chf - $sparse_flag $as_it_is -C / < "$state/send" || return
  # shellcheck disable=SC2086
  [ ! -s "$state/whole" ] || xargs -0 tar -cf - $as_it_is -C / < "$state/whole" || return
  cp "$state/trees" "$state/.trees" && tar -cf - -C "$state" .trees
}

# Takes the orchestrator's tar stream; believes it only with its manifest, then gives the files their names.
unpack() {
  [ -n "$out" ] || { cat > /dev/null; return 0; } # a verb that makes no files
  part=$out/.nixos-image-$run-$$.part
  mkdir "$part" || { cat > /dev/null; return 8; }
  (cd "$part" && tar -xof -) 2> "$state/tar" || cat > /dev/null
  take "$part"
  taken=$?
  rm -rf "$part"
  return $taken
}

take() {
  # Without a whole manifest nothing was handed over; where that is no wonder, the orchestrator's exit code says so.
  is_file "$1/.complete" && [ "$(tail -n 1 "$1/.complete")" = end ] || return 8
  while read -r sum kind name && [ "$sum" != end ]; do
    # A link would be followed by whoever comes next, and into a folder mv would put the file.
    case $name in
      '' | .* | -* | */* | *[[:cntrl:]]*) say "error: a file has a name that none may have"; return 8 ;;
    esac
    is_file "$1/$name" || { say "error: $name is no file"; return 8; }
    [ ! -d "$out/$name" ] || { say "error: $out/$name is a folder"; return 8; }
    found=$(checksum "$1/$name") || return 8
    [ -z "$found" ] || [ "$found" = "$sum" ] || { say "error: $name did not arrive as it was sent"; return 8; }
  done < "$1/.complete"
  while read -r sum kind name && [ "$sum" != end ]; do
    into=$out
    [ "$name" != "$above" ] || into=$out/..
    mv -f "$1/$name" "$into/$name" || return 8
    if [ "$kind" = image ]; then
      printf '%s\n' "$out/$name"
      [ -s "$state/image" ] || printf '%s\n' "$out/$name" > "$state/image"
    fi
  done < "$1/.complete"
}

is_file() { [ -f "$1" ] && [ ! -L "$1" ]; }

checksum() {
  # OpenSSL first: it uses the processor's own instructions, which makes seconds for a large image.
  if command -v openssl > /dev/null; then openssl dgst -sha256 < "$1" | sed 's/.* //'
  elif command -v sha256sum > /dev/null; then sha256sum < "$1" | cut -d ' ' -f 1
  elif command -v shasum > /dev/null; then shasum -a 256 < "$1" | cut -d ' ' -f 1
  fi
}

# A run with files in both directions; what people read goes to stderr, the image's path to stdout.
run_streams() {
  container=nixos-image-$run
  {
    # A terminal that is closed tells all its processes at once, as `timeout` does. Only the script itself may listen: it tells
    # the orchestrator, the others see to its end.
    trap '' HUP TERM
    if [ -s "$state/send" ] || [ -s "$state/trees" ]; then
      { pack | start -i "--env NIXOS_IMAGE_INPUT=1" -- "$@"; echo $? > "$state/code"; } | unpack
    else
      { start -- "$@" < /dev/null; echo $? > "$state/code"; } | unpack
    fi
  } &
  await $!
  unpacked=$?
  container=
  code=$(cat "$state/code" 2> /dev/null || echo 70)
  if [ "$code" = 0 ] && [ $unpacked != 0 ]; then
    say "error: the image could not be written to $out: $(tail -n 1 "$state/tar" | plain)"
    code=8
  fi
  after_death
  return "$code"
}

# Where the orchestrator could not end by itself.
after_death() {
  case $code in
    125)
      say "error: Docker could not run the orchestrator, or has stopped meanwhile"
      code=3
      ;;
    137)
      say "error: the orchestrator was killed; removing what it left"
      run=$(new_run)
      container=nixos-image-$run
      start -- clean > /dev/null || say "error: that failed too: run ./run.sh clean"
      container=
      ;;
  esac
}

# A run on the caller's terminal, where there is one. Files are sent before.
run_terminal() {
  flags=-i
  if [ -t 0 ] && [ -t 1 ]; then flags=-it; fi
  if [ -s "$state/send" ]; then
    # Created before: so there is always a container of the run's, which has its volume.
    container=nixos-image-$run
    how=create
    start $flags -- "$@" > /dev/null || { code=125; container=; after_death; return $code; }
    how=run
    container=nixos-image-$run-send
    { trap '' HUP TERM; pack | start -i "--env NIXOS_IMAGE_INPUT=1" -- receive > /dev/null; } &
    await $!
    code=$?
    if [ $code != 0 ] || [ -n "$stopped" ]; then
      remove 'rm -f' "nixos-image-$run"
      after_death
      end_if_stopped "the sending of files"
      return $code
    fi
  fi
  container=nixos-image-$run
  # Not in the foreground: there a terminal that is closed would be noticed only when Docker's client has ended, which does not.
  { trap '' HUP TERM; if [ -s "$state/send" ]; then docker start --attach --interactive "$container"; else start $flags -- "$@"; fi <&3; } &
  job=$!
  watcher=
  if [ $flags = -it ]; then watch_terminal & watcher=$!; fi
  await $job
  code=$?
  [ -z "$watcher" ] || { kill $watcher; wait $watcher; } 2> /dev/null
  container=
  after_death
  return $code
}

# A closed terminal's SIGHUP is ignored below some callers, nohup among them; but nobody could leave the machine any more.
watch_terminal() {
  while sleep 1 > /dev/null 2>&1; do
    [ -t 3 ] || { kill -TERM $$; return; }
  done
}

# After `down`: what Compose cannot remove, because it was running in it.
forget() {
  volumes=
  images=
  for word in "$@"; do
    case $word in
      -v | --volumes) volumes=1 ;;
      --rmi | --rmi=*) images=1 ;;
    esac
  done
  remove 'rm -f' "$(docker_names ps -aq --filter label=$label)" # those of runs, and of builds that failed halfway
  remove 'network rm' "$(docker_names network ls -q --filter label=$label)"
  [ -z "$volumes" ] || remove 'volume rm' "$(docker_names volume ls -q --filter label=$label)"
  [ -n "$images" ] || return 0
  remove 'rmi -f' "$(docker_names images -q --filter label=$label)"
  remove rmi "$(docker_names images --format '{{.Repository}}' $base)" # by name: the image may be the user's own, under our tag
  # Stages that no tag names, from the top down: each removal frees its parents.
  while left=$(docker_names images -aq --filter label=$label --filter dangling=true) && [ -n "$left" ]; do
    before=$left
    remove 'rmi -f' "$left"
    left=$(docker_names images -aq --filter label=$label --filter dangling=true)
    [ "$left" != "$before" ] || break
  done
  left=$(docker_names images -q --filter label=$label)
  [ -z "$left$(docker_names volume ls -q --filter label=$label)" ] || die 3 "not all could be removed: $(tail -n 1 "$state/log" | plain)"
}

remove() {
  # shellcheck disable=SC2086  # words of our own, then ids and names
  [ -z "$2" ] || docker $1 $2 > /dev/null 2>> "$state/log"
}

# docker_names COMMAND...: the ids or names that Docker lists, and nothing else that the engine may say, options for one
docker_names() { docker "$@" | LC_ALL=C grep -E '^[A-Za-z0-9][A-Za-z0-9_./:-]*$'; }

main() {
  exec 3<&0
  columns=0
  if [ -t 2 ]; then columns=$(stty size 2> /dev/null < /dev/tty | cut -d ' ' -f 2); columns=${columns:-80}; fi
  state=$(mktemp -d) || exit 2
  trap 'forget_run; rm -rf "$state"' EXIT
  ca_bundle=${SSL_CERT_FILE:-${NIX_SSL_CERT_FILE:-}}
  if [ -r "${ca_bundle:-/}" ] && [ -f "$ca_bundle" ]; then absolute "$ca_bundle"; ca_bundle=$absolute; else ca_bundle=; fi
  sparse=1 sparse_flag=-S as_it_is=
  case $(tar --version 2>&1) in
    *busybox* | *BusyBox*) sparse=0 sparse_flag= ;;
    *GNU*) as_it_is=--no-unquote ;; # or a backslash in a name would be an escape
  esac
  out='' above='' out_kib='' mode=streams then_boot='' down='' how=run mounted=

  answer "$@"
  find_docker
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
