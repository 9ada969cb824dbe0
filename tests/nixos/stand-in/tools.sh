# shellcheck shell=bash disable=SC1090,SC2154
# The build machine's tools. What runs here is the builder image's own, but for patchelf, which it has not.
PATH=/usr/bin:/bin
. "$unpack"
# shellcheck disable=SC2086
unpack "$out" $debs
cp "$out/bin/patchelf" patchelf
patchelf() {
  "$(loader)" --library-path "$libraries/lib" ./patchelf "$@"
}
relink "$out"
ln -s bash "$out/bin/sh"
ln -s gawk "$out/bin/awk"
ln -s python3.13 "$out/bin/python3"
