# shellcheck shell=bash disable=SC2154
# A cc for architectures of which Debian has no tcc: its programs are empty scripts, so an image can be made, but not booted.
PATH=$tools/bin
mkdir -p "$out/bin"
cat >"$out/bin/cc" <<END
#!$tools/bin/bash
while [ "\$1" != -o ]; do shift; done
printf '#!/bin/sh\n' >"\$2"
$tools/bin/chmod +x "\$2"
END
chmod +x "$out/bin/cc"
