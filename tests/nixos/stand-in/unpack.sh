# shellcheck shell=bash disable=SC2154
# Functions that make store paths of Debian packages; sourced by the builders of tools, libraries and stand-ins. $libraries is the
# store path with ld.so and libraries, $machine Debian's architecture triplet in folder names.

# unpack TARGET DEB...: unpacks the packages with nixpkgs' folder layout
unpack() {
  local target=$1 deb from tree
  shift
  tree=$(mktemp -d)
  for deb; do
    # dpkg-deb --extract would keep setuid bits, which Nix forbids its builders to set.
    dpkg-deb --fsys-tarfile "$deb" | tar -x --no-same-permissions -C "$tree"
  done
  chmod -R u+w "$tree"
  # A file in lib may be a link to lib/<machine>: the file in lib/<machine> must win.
  mkdir "$tree/multiarch"
  for from in "$tree/usr/lib/$machine" "$tree/lib/$machine"; do
    merge "$from" "$tree/multiarch"
    rm -rf "$from"
  done
  merge "$tree/usr/lib" "$target/lib"
  merge "$tree/lib" "$target/lib"
  merge "$tree/multiarch" "$target/lib"
  for from in usr/sbin sbin usr/bin bin; do # bin comes last: sbin may have links of the same names to it
    merge "$tree/$from" "$target/bin"
  done
  merge "$tree/usr/include" "$target/include"
  merge "$tree/usr/libexec" "$target/libexec"
  merge "$tree/usr/share" "$target/share"
  merge "$tree/etc" "$target/etc"
  merge "$tree/boot" "$target/boot"
  rm -rf "$tree" "$target"/share/{doc,man,info,locale,lintian,bug,doc-base}
}

# merge FROM TO: copies the content of the folder FROM, if there is any, into TO; replaces files of the same names
merge() {
  [ -n "$(ls -A "$1" 2>/dev/null)" ] || return 0
  mkdir -p "$2"
  cp -a --remove-destination "$1/." "$2/"
}

loader() {
  echo "$libraries"/lib/ld-linux*.so.*
}

# relink FOLDER: patches programs and libraries in FOLDER to load libraries from FOLDER and $libraries; what is in share is firmware
relink() {
  local file magic programs=() dynamic=()
  while IFS= read -r file; do
    IFS= LC_ALL=C read -rN4 magic <"$file" 2>/dev/null || continue
    [ "$magic" = $'\x7fELF' ] || continue
    if patchelf --print-interpreter "$file" >/dev/null 2>&1; then
      programs+=("$file")
      dynamic+=("$file")
    elif [ -n "$(patchelf --print-needed "$file" 2>/dev/null)" ]; then
      dynamic+=("$file")
    fi
  done < <(find "$1" -type f -size +3 ! -path '*/share/*' ! -name '*.ko*' ! -name '*.o')
  # Set RPATH, which libraries inherit, not RUNPATH; and before the interpreter: the other order breaks programs with a fixed load
  # address.
  [ -z "${dynamic[*]}" ] || patchelf --force-rpath --set-rpath "$1/lib:$1/lib/systemd:$libraries/lib:$libraries/lib/systemd" "${dynamic[@]}"
  [ -z "${programs[*]}" ] || patchelf --set-interpreter "$(loader)" "${programs[@]}"
}
