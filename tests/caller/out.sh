# Sourced after stub.sh by tests of the output folder: runs of run.sh that deliver images there.
# shellcheck shell=sh disable=SC2154  # the variables are lib.sh's

# pack_stream NAME...: makes the orchestrator's stream of these files in $work/stream.d; images are *.img
pack_stream() {
  for name; do
    case $name in *.img) kind=image ;; *) kind='file' ;; esac
    printf '%s %s %s\n' "$(sha256sum < "$work/stream.d/$name" | cut -d ' ' -f 1)" $kind "$name"
  done > "$work/stream.d/.complete"
  echo end >> "$work/stream.d/.complete"
  PATH="$work/bin:$PATH" tar -cf "$work/stream" -C "$work/stream.d" "$@" .complete
}

# files TEXT NAME...: makes the files NAME in $work/stream.d, as a run called TEXT would
files() {
  text=$1
  shift
  rm -rf "$work/stream.d"
  mkdir "$work/stream.d"
  for name; do
    case $name in
      *.provenance.json) printf '{"type": "urn:nixos-image:build:v1", "run": "%s"}\n' "$text" ;;
      *known_hosts) printf '# urn:nixos-image:known-hosts:v1\npi ssh-ed25519 %s\n' "$text" ;;
      *result.json) printf '{"type": "urn:nixos-image:result:v1", "run": "%s"}\n' "$text" ;;
      build.log) printf '# urn:nixos-image:log:v1: run %s\n' "$text" ;;
      *.sha256) (cd "$work/stream.d" && sha256sum ./*.img | sed 's| \./| |') ;;
      # Longer than what a file system stores in an inode.
      a.img) awk -v text="$text" 'BEGIN { for (i = 0; i < 20000; i++) print text, i }' ;;
      *) echo "$text" ;;
    esac > "$work/stream.d/$name"
  done
}

hands_over() {
  files "$@"
  shift
  pack_stream "$@"
}

# Names of a run's files in the order of their delivery: checksums and signature in the middle, like those of the first of two
# images.
all='a.img a.img.sha256 a.img.sha256.sig a.img.serial.log a.img.log result.json a.img.result.json a.img.cdx.json a.img.provenance.json'

# shellcheck disable=SC2086  # names
whole() { hands_over "$1" $all a.img.bmap; }

# builds ARGUMENTS...: runs run.sh with the output folder $out
builds() {
  : > "$work/orders"
  for word; do [ "$word" != --force ] || echo force > "$work/orders"; done
  order out_dir --out "$out"
  run_sh demo -o "$out" "$@"
}

# fresh: sets $out to a new, empty folder
fresh() {
  out=$work/images
  rm -rf "$out"
  mkdir "$out"
}

# holds NAME TEXT: whether the file in $out has that text
holds() { grep -q -- "$2" "$out/$1"; }

# is_of TEXT: whether the image in $out and all files beside it are of the run called TEXT
is_of() {
  [ "$(cd "$out" && grep -l "$1" a.img* | wc -l)" = "$(cd "$out" && find . -name 'a.img*' ! -name a.img.sha256 | wc -l)" ] && proved
}
proved() { (cd "$out" && sha256sum -c --quiet a.img.sha256) >> "$work/err" 2>&1; }
no_lock() { [ -z "$(find "$out" -name '.?*' ! -path "$out")" ]; }

# recorded_tools: makes tools that run the real one, then `deed` with their words if these are about the output folder
recorded_tools() {
  for tool in mv ln rm sync; do
    cat > "$work/bin/$tool" << EOF
#!/bin/sh
$(command -v $tool) "\$@"
code=\$?
case "\$*" in *"$work/images"* | *./files*) "$work/deed" $tool "\$@" ;; esac
exit \$code
EOF
    chmod +x "$work/bin/$tool"
  done
}
