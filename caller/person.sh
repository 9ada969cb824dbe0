# Finds what `init` offers as answers: the caller's name, time zone, and the public keys of the SSH agent.
# shellcheck shell=sh

# find_person: exports NIXOS_IMAGE_USER, NIXOS_IMAGE_ZONE and NIXOS_IMAGE_AGENT_KEYS for the orchestrator.
find_person() {
  NIXOS_IMAGE_USER=$(id -un 2> /dev/null)
  NIXOS_IMAGE_ZONE=${TZ:-}
  if [ -z "$NIXOS_IMAGE_ZONE" ] && [ -r /etc/timezone ]; then NIXOS_IMAGE_ZONE=$(cat /etc/timezone); fi
  if [ -z "$NIXOS_IMAGE_ZONE" ]; then # macOS and most Linux: a link into the folder of time zones
    NIXOS_IMAGE_ZONE=$(readlink /etc/localtime)
    case $NIXOS_IMAGE_ZONE in */zoneinfo/*) NIXOS_IMAGE_ZONE=${NIXOS_IMAGE_ZONE#*/zoneinfo/} ;; *) NIXOS_IMAGE_ZONE= ;; esac
  fi
  case $NIXOS_IMAGE_ZONE in *[!A-Za-z0-9/_+-]*) NIXOS_IMAGE_ZONE= ;; esac
  # An agent that does not answer must not hold up the questions.
  NIXOS_IMAGE_AGENT_KEYS=
  if [ -n "${SSH_AUTH_SOCK:-}" ] && command -v ssh-add > /dev/null; then
    asking=1
    with_life 5 "waiting for the SSH agent" saying ssh-add -L && NIXOS_IMAGE_AGENT_KEYS=$(cat "$state/said")
    asking=
    rm -f "$state/late"
  fi
  export NIXOS_IMAGE_USER NIXOS_IMAGE_ZONE NIXOS_IMAGE_AGENT_KEYS
}
