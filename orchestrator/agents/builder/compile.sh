#!/bin/sh
# compile.sh FOLDER: compiles pack and the preloaded libraries (still.so, bulk.so, readonly.so, unseen.so) into FOLDER.
set -e
mkdir -p "$1"
into=$(cd "$1" && pwd)
cd "$(dirname "$0")"
tcc -Wall -Werror -shared -o "$into/still.so" ../../image/filesystems/still.c
tcc -Wall -Werror -shared -o "$into/bulk.so" ../../image/filesystems/bulk.c -lext2fs
tcc -Wall -Werror -shared -o "$into/readonly.so" readonly.c
tcc -Wall -Werror -shared -o "$into/unseen.so" unseen.c
tcc -Wall -Werror -o "$into/pack" ../../image/pack.c -lcrypto
