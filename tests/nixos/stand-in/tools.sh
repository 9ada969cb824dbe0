# shellcheck shell=bash disable=SC1090,SC2154
# Makes the build machine's tools. This script runs with the builder image's programs, and an unpacked patchelf.
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
