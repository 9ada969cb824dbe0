# shellcheck shell=bash disable=SC2154
# Debian packages as store paths. Sourced by what builds tools, libraries and stand-ins; $libraries is the store path that
# programs find their libraries and their loader in, $machine the name of Debian's folders for what is of one architecture.

# unpack TARGET DEB...: the packages' files, laid out as nixpkgs does.
unpack() {
  local target=$1 deb from tree
  shift
  tree=$(mktemp -d)
  for deb; do
    # Not --extract, which keeps the setuid bits that Nix forbids its builders to set.
    dpkg-deb --fsys-tarfile "$deb" | tar -x --no-same-permissions -C "$tree"
  done
  chmod -R u+w "$tree"
  # A library's other name may be a link from lib to lib/<machine>: what is in there has to win.
  mkdir "$tree/multiarch"
  for from in "$tree/usr/lib/$machine" "$tree/lib/$machine"; do
    merge "$from" "$tree/multiarch"
    rm -rf "$from"
  done
  merge "$tree/usr/lib" "$target/lib"
  merge "$tree/lib" "$target/lib"
  merge "$tree/multiarch" "$target/lib"
  for from in usr/sbin sbin usr/bin bin; do # sbin may have links to bin
    merge "$tree/$from" "$target/bin"
  done
  merge "$tree/usr/include" "$target/include"
  merge "$tree/usr/libexec" "$target/libexec"
  merge "$tree/usr/share" "$target/share"
  merge "$tree/etc" "$target/etc"
  merge "$tree/boot" "$target/boot"
  rm -rf "$tree" "$target"/share/{doc,man,info,locale,lintian,bug,doc-base}
}

# merge FROM TO: the content of one folder, if it is there and not empty, into another.
merge() {
  [ -n "$(ls -A "$1" 2>/dev/null)" ] || return 0
  mkdir -p "$2"
  cp -a --remove-destination "$1/." "$2/"
}

loader() {
  echo "$libraries"/lib/ld-linux-*.so.*
}

# relink FOLDER: programs and libraries in FOLDER find their libraries in it and in $libraries.
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
  done < <(find "$1" -type f -size +3 ! -name '*.ko*' ! -name '*.o')
  # RPATH, which libraries of a library inherit, not RUNPATH; and before the interpreter: the other order breaks programs
  # that are linked to a fixed address.
  [ -z "${dynamic[*]}" ] || patchelf --force-rpath --set-rpath "$1/lib:$1/lib/systemd:$libraries/lib:$libraries/lib/systemd" "${dynamic[@]}"
  [ -z "${programs[*]}" ] || patchelf --set-interpreter "$(loader)" "${programs[@]}"
}
