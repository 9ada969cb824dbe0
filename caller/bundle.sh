# Makes the archive of `doctor --bundle`: findings, versions, settings and the last logs, without secrets (caller/redact.sh).
# shellcheck shell=sh

# find_bundle ARGUMENTS...: sets $bundle to the archive that `--bundle` asks for, if it does; a file that exists is not replaced
find_bundle() {
  follows='' wanted='' file=
  for word; do
    case $follows$word in 1-*) ;; 1*) file=$word ;; esac
    follows=
    case $word in
      --bundle) wanted=1 follows=1 ;;
      --bundle=*) wanted=1 file=${word#*=} ;;
    esac
  done
  [ -n "$wanted" ] || return 0
  absolute "${file:-nixos-image-doctor-$(date -u +%Y%m%d-%H%M%S).tar.gz}"
  bundle=$absolute
  is_plain "$bundle" || die 2 "--bundle: the file's name has control characters" "choose another name"
  ! is_there "$bundle" || die 2 "$bundle exists: it is not replaced" "choose another name"
  [ -d "${bundle%/*}/" ] && [ -w "${bundle%/*}/" ] || die 2 "$bundle: its folder cannot be written to" "choose another folder"
}

# make_bundle: writes $bundle, with $state/report. An error in it is no finding.
make_bundle() {
  form=$examining examining=
  write_bundle
  bundled=$?
  examining=$form
  return $bundled
}

# write_bundle: collects what there is, removes secrets and packs it
write_bundle() {
  raw=$state/raw clean=$state/bundle/nixos-image-doctor
  mkdir -p "$raw" "$clean" || return 8
  part_of_report 1 > "$raw/doctor.txt"
  part_of_report 2 > "$raw/doctor.json"
  [ -s "$raw/doctor.json" ] || mv "$raw/doctor.txt" "$raw/doctor.json" # only JSON was asked for
  version > "$raw/version.txt" 2> /dev/null
  collect_settings > "$raw/environment.txt"
  if command -v docker > /dev/null && ! is_silent; then
    { ask_within 10 version; cat "$state/said" "$state/log"; } > "$raw/docker-version.txt" 2> /dev/null
    { ask_within 10 info; grep -vE '^ *(Name|ID|Username):' "$state/said"; cat "$state/log"; } > "$raw/docker-info.txt" 2> /dev/null
  fi
  ! is_readable appliance.toml || head -c 100000 appliance.toml > "$raw/appliance.toml"
  collect_logs
  known_secrets > "$state/known"
  for file in "$raw"/*; do redact < "$file" > "$clean/${file##*/}" || return 8; done
  tell_contents > "$clean/README.txt"
  if [ -s "$state/known" ] && grep -rqF -f "$state/known" "$clean"; then
    die 70 "the archive would have a secret: it was not written" "report the output of ./run.sh doctor instead"
  fi
  (cd "$state/bundle" && tar -cf - nixos-image-doctor | gzip -9 > "$state/bundle.tar.gz") && (set -C; cat "$state/bundle.tar.gz" > "$bundle") \
    || { say "error: $bundle cannot be written"; return 8; }
  say "$bundle: read its files before you send it ($(cd "$clean" && echo *))"
}

# collect_settings: prints the variables that change what runs do
collect_settings() {
  for name in DOCKER_HOST DOCKER_CONTEXT NIXOS_IMAGE_PATIENCE NIXOS_IMAGE_SOCKET NIXOS_CONFIG NIX_PATH SSL_CERT_FILE NIX_SSL_CERT_FILE \
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_EXTRA_INDEX_URL TMPDIR LANG LC_ALL TERM SHELL; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || printf '%s=%s\n' "$name" "$value"
  done
}

# collect_logs: puts the last lines of the five newest logs and of result.json in ./out into $raw
collect_logs() {
  # shellcheck disable=SC2012  # names of logs are an image's, which have no line ends
  ls -t out/*.log 2> /dev/null | sed 5q | while IFS= read -r log; do
    # A line that is cut may have lost the name by which its secret is known.
    is_readable "$log" && tail -c 1000000 "$log" | if is_large "$log"; then sed 1d; else cat; fi | tail -n 3000 > "$raw/log-${log##*/}"
  done
  ! is_readable out/result.json || head -c 1000000 out/result.json > "$raw/result.json"
}

# is_large FILE: whether it has about 1 MB or more. Some systems' wc reads all of a file to count.
is_large() { [ -n "$(find "$1" -prune -size +1953)" ]; }

# is_readable FILE: whether the caller may read the FILE, which is no link: a link of another's folder may lead to any file
is_readable() { is_file "$1" && [ -r "$1" ]; }

tell_contents() {
  echo "What ./run.sh doctor has found, for a bug report. Secrets, names of people and computers, e-mail addresses and public keys were"
  echo "replaced by [...]; the home folder is ~. Read the files before you send them: only you know what else must not be told."
}
