#!/bin/sh
# compile.sh FOLDER: compiles the libraries and the program that the builder starts its tools with, into FOLDER.
set -e
mkdir -p "$1"
into=$(cd "$1" && pwd)
cd "$(dirname "$0")"
tcc -Wall -Werror -shared -o "$into/still.so" ../../image/filesystems/still.c
tcc -Wall -Werror -shared -o "$into/bulk.so" ../../image/filesystems/bulk.c -lext2fs
tcc -Wall -Werror -shared -o "$into/readonly.so" readonly.c
tcc -Wall -Werror -o "$into/pack" ../../image/pack.c -lcrypto
