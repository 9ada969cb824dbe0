# Examines the caller's computer for `doctor`. With an engine, the orchestrator examines the rest and prints everything; without, this
# file reports alone. Each finding names a rule of orchestrator/shared/rules.toml.
# shellcheck shell=sh

# examine_here ARGUMENTS...: examines what can be examined without Docker; sets $examining
examine_here() {
  shift
  : > "$state/findings"
  find_bundle "$@"
  examining=text
  ! given --json "$@" || examining=json
  examine_system
  examine_checkout
  examine_disks
  examine_proxies
  examine_bundle
  examine_login
}

examine_system() {
  system=$(uname -s) release=$(uname -r)
  case $system:$release in
    Linux:*-Microsoft) finding system fails "Windows with WSL 1" ;;
    Linux:*icrosoft*) finding system ok "Windows with WSL 2, $(uname -m)" ;;
    Darwin:*)
      rosetta=
      [ "$(sysctl -n sysctl.proc_translated 2> /dev/null)" != 1 ] || rosetta=", this shell is translated by Rosetta"
      finding system ok "macOS $(sw_vers -productVersion 2> /dev/null), $(uname -m)$rosetta"
      ;;
    *) finding system ok "$system $release, $(uname -m)" ;;
  esac
}

examine_checkout() {
  ended=$(cd "$root" && find run.sh caller orchestrator nix config compose.yaml -type f \( -name '*.sh' -o -name '*.nix' -o -name '*.py' \
    -o -name '*.toml' -o -name '*.yaml' \) -exec grep -l "$(printf '\r')\$" {} + 2> /dev/null | sed q)
  if [ -n "$ended" ]; then finding line-ends fails "Windows' line ends in $ended"; else finding line-ends ok "as committed"; fi
  case $release:$root in *icrosoft*:/mnt/[a-z]/*) finding windows-disk warns "$root" ;; esac
}

# free_mib PATH: prints the free MiB of the path's disk
free_mib() { df -Pk "$1" 2> /dev/null | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p' | awk '{ print int($1 / 1024) }'; }

# examine_space RULE PATH FAILS WARNS: examines the free space of PATH; FAILS and WARNS are limits in MiB
examine_space() {
  free=$(free_mib "$2")
  if [ -z "$free" ]; then finding "$1" unknown "$2: df does not tell"
  elif [ "$free" -lt "$3" ]; then finding "$1" fails "$free MiB free at $2"
  elif [ "$free" -lt "$4" ]; then finding "$1" warns "$free MiB free at $2"
  else finding "$1" ok "$free MiB free at $2"; fi
}

examine_disks() {
  place=$PWD/out
  [ -e "$place" ] || place=$PWD
  if [ -d "$place" ] && [ -w "$place" ]; then finding output-folder ok "$PWD/out"
  else finding output-folder fails "$place cannot be written to by $(id -un 2> /dev/null || id -u)"; fi
  examine_space disk-output "$place" 256 256
  examine_space disk-temporary "${state%/*}" 16 1024
}

# A proxy's value may have a password: it is not shown.
examine_proxies() {
  shown=
  for name in http_proxy https_proxy HTTP_PROXY HTTPS_PROXY; do
    eval "value=\${$name:-}"
    [ -n "$value" ] || continue
    host=${value#*://} host=${host##*@}
    shown="$shown $name=$host"
    case $host in localhost | localhost[:/]* | 127.* | '[::1]'*) finding proxy-loopback fails "$name names $host" ;; esac
  done
  [ -z "$shown" ] || grep -q '^proxy-loopback' "$state/findings" || finding proxy-loopback ok "${shown# }"
  for name in http https; do
    case $name in
      http) small=${http_proxy:-} large=${HTTP_PROXY:-} ;;
      https) small=${https_proxy:-} large=${HTTPS_PROXY:-} ;;
    esac
    [ -z "$small" ] || [ -z "$large" ] || [ "$small" = "$large" ] || finding proxy-case warns "${name}_proxy has another value in capital letters"
  done
}

examine_bundle() {
  file=${SSL_CERT_FILE:-${NIX_SSL_CERT_FILE:-}}
  [ -n "$file" ] || return 0
  if [ ! -f "$file" ] || [ ! -r "$file" ]; then finding ca-bundle fails "$file cannot be read"
  elif ! found=$(certificates "$file"); then finding ca-bundle fails "$file has no certificate"
  else finding ca-bundle ok "$file, $found certificates"; fi
}

examine_login() {
  helper=$(sed -n 's/.*"credsStore"[ ]*:[ ]*"\([A-Za-z0-9_-]*\)".*/\1/p' "${DOCKER_CONFIG:-${HOME:-}/.docker}/config.json" 2> /dev/null)
  [ -n "$helper" ] || return 0
  if command -v "docker-credential-$helper" > /dev/null; then finding docker-login ok "docker-credential-$helper"
  else finding docker-login warns "docker-credential-$helper is not in PATH"; fi
}

# examine_entries LIVES: examines the host's binfmt_misc. LIVES RUN succeeds if the run lives, or is none of this engine's.
examine_entries() {
  [ "$(uname -s)" = Linux ] || return 0
  table=$proc/sys/fs/binfmt_misc
  [ -r "$table/status" ] || { finding binfmt-enabled ok "not mounted on this computer"; return; }
  names=
  for entry in "$table"/*; do
    case ${entry##*/} in register | status) ;; *) names="$names ${entry##*/}" ;; esac
  done
  finding binfmt-enabled "$(if grep -qx enabled "$table/status"; then echo ok; else echo warns; fi)" \
    "$(cat "$table/status"), entries:${names:- none}"
  left=
  for entry in "$table"/nixos-image-*; do
    [ -e "$entry" ] || continue
    of=${entry##*/nixos-image-} of=${of%%-*}
    "$1" "$of" || left="$left ${entry##*/}"
  done
  [ -z "$left" ] || finding binfmt-leftovers warns "${left# }"
}

# lives RUN: whether the run has a running container here, or is another engine's (its name begins with other digits)
lives() {
  case $1 in "$digits"*) ;; *) return 0 ;; esac
  ask ps --quiet --filter "label=org.nixos-image.run=$1" && [ -s "$state/said" ]
}

# hand_findings: gives the findings to the orchestrator, now that Docker has answered
hand_findings() {
  examine_entries lives
  finding docker-engine ok "$endpoint"
  finding programs ok "tar, $hasher"
  NIXOS_IMAGE_FINDINGS=$(cut -f 1-3 "$state/findings")
  export NIXOS_IMAGE_FINDINGS
}

# run_doctor ARGUMENTS...: runs the orchestrator; if it does not examine, reports alone
run_doctor() {
  if [ -n "$bundle" ]; then run_terminal "$@" < /dev/null > "$state/report"; else run_terminal "$@"; fi
  examined=$?
  case $examined in
    0 | 4) ;;
    130 | 143 | 2) return $examined ;;
    *) report_alone start "the orchestrator ended with exit code $examined" "$(remedy start)"; return $examined ;;
  esac
  [ -z "$bundle" ] || { make_bundle && show_report; } || examined=8
  return $examined
}
