# shellcheck shell=bash disable=SC1090,SC2154
PATH=$tools/bin
. "$unpack"
# shellcheck disable=SC2086
unpack "$out" $debs
relink "$out"
# Replace Debian's paths in the linker script: first ld.so, then files of the architecture's folder.
sed -i -E \
  -e "s,/lib(64)?/ld-linux,$libraries/lib/ld-linux,g" \
  -e "s,(/usr)?/lib/$machine/libc\.so,$libraries/lib/libc.so,g" \
  -e "s,(/usr)?/lib/$machine/,$out/lib/,g" \
  "$out/lib/libc.so"
cat >"$out/bin/cc" <<END
#!$tools/bin/bash
# A cc whose programs find their libraries in the store.
set -e
export PATH=$tools/bin
libraries=$libraries
. $unpack
$out/bin/tcc -B$out/lib/tcc -nostdinc -nostdlib -I$out/lib/tcc/include -I$out/include/$machine -I$out/include -L$libraries/lib \\
  $out/lib/crt1.o $out/lib/crti.o "\$@" $out/lib/libc.so $out/lib/tcc/libtcc1.a $out/lib/crtn.o
while [ "\$1" != -o ]; do shift; done
patchelf --force-rpath --set-rpath "\$libraries/lib" "\$2"
patchelf --set-interpreter "\$(loader)" "\$2"
END
chmod +x "$out/bin/cc"
