# shellcheck shell=bash disable=SC1090,SC2154
# Collects all libraries in one folder. They need no relinking, because they inherit the program's RPATH.
PATH=/usr/bin:/bin
. "$unpack"
# shellcheck disable=SC2086
unpack tree $debs
mkdir "$out"
mv tree/lib "$out/lib"
