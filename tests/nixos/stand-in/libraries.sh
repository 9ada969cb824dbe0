# shellcheck shell=bash disable=SC1090,SC2154
# Every library there is, in one folder. They need no relinking: they inherit the search path of the program.
PATH=/usr/bin:/bin
. "$unpack"
# shellcheck disable=SC2086
unpack tree $debs
mkdir "$out"
mv tree/lib "$out/lib"
