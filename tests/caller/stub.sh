# Sourced after lib.sh by tests that need no engine: run.sh's side with a Docker of the test's own.
# shellcheck shell=sh disable=SC2154  # the variables are lib.sh's

# Answers as Docker does where run.sh asks, and plays the orchestrator: its orders are in `orders`, its stream in `stream`; what
# it is sent goes into `sent`.
mkdir "$work/bin"
cat > "$work/bin/docker" << 'EOF'
#!/bin/sh
here=$(dirname -- "$(dirname -- "$0")")
case "$*" in
  version*) echo linux ;;
  *' orchestrator prepare'*) cat "$here/orders" ;;
  *'nixos-image-orchestrator orchestrator '*) cat > "$here/sent"; cat "$here/stream" ;;
  *org.nixos-image.source*) cat "$here/source" ;;
esac
EOF
chmod +x "$work/bin/docker"
# What run.sh takes for the state of the checkout: nothing is to be built.
sed -n '/^source_state() {/,/^}/p; /^parts() {/,/^}/p' "$project/run.sh" > "$work/state.sh"
echo source_state >> "$work/state.sh"
root=$project ca_bundle='' base=nixos-image-base PATH="$work/bin:$PATH" sh "$work/state.sh" > "$work/source"
: > "$work/stream"
: > "$work/orders"

# order VERB WORD...: what the orchestrator asks of run.sh, beside what it has asked before
order() {
  printf %s "$1" >> "$work/orders"
  shift
  for word; do printf " '%s'" "$word" >> "$work/orders"; done
  echo >> "$work/orders"
}

# caller ARGUMENTS...: run.sh, as it is called; a minute is more than it takes
caller() { SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$PATH" timeout 60 "$project/run.sh" "$@"; }

# sends OPTION PATH: run.sh, which is to send that with what lies beside it
sends() {
  : > "$work/orders"
  : > "$work/sent"
  case $1 in -c) order send_tree --configuration "$2" ;; *) order send_tree "$1" "$2" ;; esac
  caller "$1" "$2"
}

# sent NAME...: whether these files and links were sent from $folder, and no others
sent() {
  tar -tf "$work/sent" | grep -v '/$' | grep -vxF .trees | sed -n "s|^\./${folder#/}/\(\./\)*||p" | sort > "$work/names"
  printf '%s\n' "$@" | sort | diff - "$work/names" >> "$work/err"
}
