#!/bin/sh
# Tests large folders, which the engine keeps: what is sent again, what never is, and what is not kept. run.sh runs with a fake docker.
# Needs no engine.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"

# The orchestrator's answers: to a comparison, and to an update. What it is told, and sent, goes to `compared` and `update`.
cat > "$work/bin/trees" << 'EOF'
#!/bin/sh
here=$(dirname -- "$(dirname -- "$0")")
echo "$*" >> "$here/asked"
case "$*" in
  *' trees compare '*) cat > "$here/compared"; cat "$here/compare.answer" ;;
  *' trees update '*) [ ! -e "$here/slow" ] || sleep 2; cat > "$here/update"; cat "$here/update.answer" ;;
esac
EOF
chmod +x "$work/bin/trees"
sed -i.old "2a case \"\$*\" in *' orchestrator trees '*) exec \"\$(dirname -- \"\$0\")/trees\" \"\$@\" ;; esac" "$work/bin/docker"
folder="$work/my \"large\", tree"
mkdir -p "$folder/lib"
head -c 9000000 /dev/zero > "$folder/large"
printf 0 | dd of="$folder/large" bs=1 seek=8999999 conv=notrunc 2> /dev/null
echo '{ }' > "$folder/default.nix"
echo c > "$folder/lib/c"
generation=0123456789abcdef0123456789abcdef

# keeps COMPARE [OPTIONS]: runs run.sh with this answer to the comparison
keeps() {
  printf %b "$1" > "$work/compare.answer"
  echo "$generation" > "$work/update.answer"
  shift
  : > "$work/orders"
  : > "$work/asked"
  : > "$work/removed"
  : > "$work/sent"
  rm -f "$work/update" "$work/compared"
  case ${1-} in -o) order images --out "$2" ;; esac
  order send_tree --nixpkgs "$folder"
  case ${1-} in --inject) order send --inject "${2%%:/*}" ;; esac
  run_sh --nixpkgs "$folder" "$@"
}
# of_tar ARCHIVE NAME...: whether the archive has exactly these files of the folder
of_tar() {
  tar -tf "$1" 2> /dev/null | grep -v '/$' | sed -n "s|^\./${folder#/}/\(\./\)*||p" | sort > "$work/names"
  shift
  printf '%s\n' "$@" | sort | diff - "$work/names" >> "$work/err"
}
number() { grep -n " \./${folder#/}/$1\$" "$work/compared" | sed 's/:.*//' | awk '{ print $1 - 3 }'; }

expect "a folder that is as it was is not sent" 0 'as it was, nothing is sent$' keeps "same $generation\n"
check "only the lists are" sh -c "! tar -tf '$work/sent' | grep -q large"
check "which name the copy" sh -c "tar -xOf '$work/sent' .mounted | tr '\\0' '\\n' | grep -qx $generation"
check "its copy is mounted, read-only" grep -q "source=nixos-image-tree-[0-9a-f]*,readonly,\"target=/var/nixos-image/[0-9a-f]*/input$work/my \"\"large\"\", tree\"" "$work/started"
check "its times are told, with the kernel's" grep -Eq "^[0-9]+ 9000000 [0-9.]+ [0-9.]+ 81[0-9a-f]+ \./${folder#/}/large\$" "$work/compared"
lib=$(number lib/c)
expect "what has changed is sent" 0 ': 1 changed files$' keeps "changed\n$lib\n"
check "and nothing else" of_tar "$work/update" lib/c
check "with the checksum of what was compared" grep -q " trees update [0-9a-f]* $(sha256sum < "$work/compared" | cut -d ' ' -f 1)$" "$work/asked"
touch "$work/slow"
expect "what takes longer shows that it lives" 0 '^sending .*tree [(]1 s[)]$' keeps "changed\n$lib\n"
rm "$work/slow"
expect "an engine that wants other files" 0 '' keeps "changed\n$lib\n0\n-1\n99999\n../../etc/passwd\n/etc/passwd\n$lib ./etc/passwd\n"
check "the engine gets files of the list alone" of_tar "$work/update" lib/c
expect "an engine that keeps nothing" 0 "^sending .*tree: 8[.][0-9] MiB$" keeps "odd\n"
check "gets the whole folder" of_tar "$work/sent" default.nix large lib/c
check "and mounts nothing" sh -c "! grep -q nixos-image-tree '$work/started'"
generation='../../etc'
expect "a copy with an odd name" 0 '' keeps "changed\n$lib\n"
check "does not count" of_tar "$work/sent" default.nix large lib/c
generation=0123456789abcdef0123456789abcdef

mkdir "$folder/images"
touch "$folder/images/old.img"
expect "a folder with the output folder in it is told file by file" 0 'as it was, nothing is sent$' keeps "same $generation\n" -o "$folder/images"
check "all of them" sh -c "grep -q '/lib/c\$' '$work/compared' && grep -q '/large\$' '$work/compared'"
check "but none of the images" sh -c "! grep -q images '$work/compared'"
expect "and what has changed is sent" 0 ': 1 changed files$' keeps "changed\n$(number lib/c)\n" -o "$folder/images"
check "nothing else" of_tar "$work/update" lib/c
mkdir "$work/alone"
mv "$folder/lib" "$folder/large" "$work/alone"
mkdir "$work/beside"
mv "$folder/default.nix" "$work/beside"
mv "$work/alone" "$folder/alone"
expect "also where there is one more folder alone" 0 'as it was, nothing is sent$' keeps "same $generation\n" -o "$folder/images"
check "all of its files" grep -q '/alone/lib/c$' "$work/compared"
check "and none of the images" sh -c "! grep -q images '$work/compared'"
mv "$folder/alone"/* "$work/beside"/* "$folder"
rm -r "$folder/alone" "$folder/images"

touch "$folder/odd
name"
expect "a name with a line end" 0 '' keeps "same $generation\n"
check "is sent, not told" sh -c "! grep -q compare '$work/asked'"
rm "$folder/odd
name"
# A file system whose times others may set
# shellcheck disable=SC2016 # another script's words
printf '#!/bin/sh\ncase $* in "-f -c %%T "*) echo "$KIND" ;; *) exec %s "$@" ;; esac\n' "$(command -v stat)" > "$work/bin/stat"
chmod +x "$work/bin/stat"
for KIND in msdos exfat fuseblk smb2 v9fs vboxsf vmhgfs overlayfs zfs nfs 'UNKNOWN (0x1)'; do
  export KIND
  expect "a folder on $KIND" 0 "^sending .*tree: 8[.][0-9] MiB$" keeps "same $generation\n"
  check "is not kept: its times may lie" sh -c "! grep -q compare '$work/asked'"
done
rm "$work/bin/stat"
printf "#!/bin/sh\necho '/dev/sdz1 on %s/lib/card type vfat (rw)'\n" "$folder" > "$work/bin/mount"
chmod +x "$work/bin/mount"
expect "a folder with another file system in it" 0 "^sending .*tree: 8[.][0-9] MiB$" keeps "same $generation\n"
check "is not kept either" sh -c "! grep -q compare '$work/asked'"
rm "$work/bin/mount"
# told: prints what tells the mount of the folder's disk from another one
told() { sed -n 2p "$work/compared"; }
expect "a disk that has stayed" 0 'as it was, nothing is sent$' keeps "same $generation\n"
first=$(told)
check "has a mark" test -n "$first"
keeps "same $generation\n" > /dev/null 2>&1 < /dev/null
check "which stays" test "$(told)" = "$first"
# shellcheck disable=SC2016 # another script's words
printf '#!/bin/sh\ncase $* in */diskseq) echo "$DISK" ;; *) exec %s "$@" ;; esac\n' "$(command -v cat)" > "$work/bin/cat"
chmod +x "$work/bin/cat"
DISK=4711 keeps "same $generation\n" > /dev/null 2>&1 < /dev/null
check "one that was attached anew, perhaps after another computer had it, has another mark" test "$(told)" != "$first"
rm "$work/bin/cat"

# A full disk of temporary files cuts a list. The last name of it may be a folder above.
mkdir "$work/full"
# shellcheck disable=SC2016 # another script's words
printf '#!/bin/sh\n[ ! -e "%s/compared" ] || for one in "%s"/*/; do ln -sf /dev/full "$one$CUT"; done\nexec %s "$@"\n' "$work" "$work/full" "$(command -v awk)" > "$work/bin/awk"
chmod +x "$work/bin/awk"
keeps_there() { (export TMPDIR="$work/full" && keeps "$@"); }
for CUT in wanted changed; do
  export CUT
  expect "a list that has no room ends the run: $CUT" 4 "^error: nothing more can be written to $work/full" keeps_there "changed\n$lib\n"
  check "and nothing is sent" test ! -e "$work/update"
done
rm "$work/bin/awk"
echo word > "$folder/lib/secret"
expect "a secret in the folder" 0 '' keeps "same $generation\n" --inject "$folder/lib/secret:/etc/secret"
check "a folder with a secret is not kept" sh -c "! grep -q compare '$work/asked'"
check "and an earlier copy is removed" grep -q "volume rm nixos-image-tree-" "$work/removed"
mkdir "$work/links"
ln -s "$folder/lib/secret" "$work/links/secret"
expect "a link from elsewhere to a secret in the folder" 0 '' keeps "same $generation\n" --inject "$work/links/secret:/etc/secret"
check "is one in the folder" sh -c "! grep -q compare '$work/asked'"
ln "$folder/lib/secret" "$folder/other"
expect "a secret with another name in a large folder is refused" 2 'which an evaluation could read' keeps "same $generation\n" --inject "$folder/lib/secret:/etc/secret"
rm "$folder/other"

finish
