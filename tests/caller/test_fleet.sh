#!/bin/sh
# Tests the delivery of several images: each is placed when it has come, and stays if the others do not come; which ones the next run
# need not make. run.sh runs with a fake docker. Needs no engine.
# shellcheck disable=SC2119  # functions are called without arguments
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"
. "$(dirname -- "$0")/out.sh"

beside_image='provenance.json result.json sha256'

# manifest NAME FILE...: makes the manifest $work/stream.d/NAME of these files; `=IMAGE` is one that is there already
manifest() {
  list=$work/stream.d/$1
  shift
  for file; do
    case $file in
      =*) printf '%064d there %s\n' 0 "${file#=}" ;;
      *.img) printf '%s image %s\n' "$(sha256sum < "$work/stream.d/$file" | cut -d ' ' -f 1)" "$file" ;;
      *) printf '%s file %s\n' "$(sha256sum < "$work/stream.d/$file" | cut -d ' ' -f 1)" "$file" ;;
    esac
  done > "$list"
  echo end >> "$list"
}

# image TEXT NAME NUMBER: adds the image NAME and what lies beside it to $work/stream.d, and manifest NUMBER of them; prints all names
image() {
  echo "$1 $2" > "$work/stream.d/$2"
  sum=$(sha256sum < "$work/stream.d/$2" | cut -d ' ' -f 1)
  printf '{"type": "urn:nixos-image:build:v1", "run": "%s"}\n' "$1" > "$work/stream.d/$2.provenance.json"
  printf '{"type": "urn:nixos-image:result:v1", "images": [{\n "sha256": "%s"}]}\n' "$sum" > "$work/stream.d/$2.result.json"
  (cd "$work/stream.d" && sha256sum "$2" "$2.provenance.json") > "$work/stream.d/$2.sha256"
  dd if=/dev/urandom of="$work/stream.d/.filler-$3" bs=1024 count=64 2> /dev/null
  names=$2
  for suffix in $beside_image; do names="$names $2.$suffix"; done
  # shellcheck disable=SC2086  # names
  manifest ".complete-$3" $names
  echo "$names .complete-$3 .filler-$3"
}

# fleet TEXT IMAGE...: makes the stream of these images, each with a manifest, and of the files of the whole run
fleet() {
  rm -rf "$work/stream.d"
  mkdir "$work/stream.d"
  text=$1 all='' number=0 there=''
  shift
  for one; do
    number=$((number + 1))
    all="$all $(image "$text" "$one" $number)" there="$there =$one"
  done
  printf '{"type": "urn:nixos-image:result:v1", "run": "%s"}\n' "$text" > "$work/stream.d/result.json"
  # shellcheck disable=SC2086  # names
  manifest .complete result.json $there
  # shellcheck disable=SC2086  # names
  PATH="$work/bin:$PATH" tar -cf "$work/stream" -C "$work/stream.d" $all result.json .complete
}

# cut NAME: ends the stream within the file NAME
cut_in() {
  at=$(grep -abo "$1" "$work/stream" | sed -n '1s/:.*//p')
  head -c $((at + 600)) "$work/stream" > "$work/cut" && mv "$work/cut" "$work/stream"
}

fresh
fleet first a.img b.img c.img
expect "all images of a fleet arrive" 0 '' builds
check "each with what lies beside it" test "$(cd "$out" && sha256sum -c ./*.sha256 | grep -c OK)" = 6
check "and the paths are printed once" test "$(cat "$work/out")" = "$out/a.img
$out/b.img
$out/c.img"
check "and nothing else is there" test "$(find "$out" -name '.?*' ! -path "$out")" = ''

fleet second a.img b.img c.img
cut_in c.img.provenance.json
builds > "$work/out" 2> "$work/err"
check "images that came before a stream ended are placed" test "$(cat "$out/a.img" "$out/b.img")" = 'second a.img
second b.img'
check "and told" test "$(cat "$work/out")" = "$out/a.img
$out/b.img"
check "the one that has not come as a whole is as before" holds c.img 'first c.img'
check "with what lies beside it" sh -c "cd '$out' && sha256sum -c --quiet c.img.sha256"
check "the list of an earlier run's images is gone" test ! -e "$out/result.json"
check "and no part is left" no_lock

# tar still unpacks when an image gets its name: here it makes a link in the image's place at that moment.
fresh
fleet first a.img b.img
echo secret > "$work/secret"
cat > "$work/bin/ln" << EOF
#!/bin/sh
case "\$2" in
  "$out/a.img") for files in "$out"/.nixos-image-*.part/files; do $(command -v ln) -sf "$work/secret" "\$files/a.img"; done ;;
esac
exec $(command -v ln) "\$@"
EOF
chmod +x "$work/bin/ln"
builds > "$work/out" 2> "$work/err"
rm "$work/bin/ln"
check "no later file of the stream takes the place of an image that was checked" test ! -L "$out/a.img" -a "$(cat "$out/a.img")" = 'first a.img'

# an image is listed that nobody has sent
fresh
fleet first a.img
manifest .complete result.json =a.img =gone.img =../../evil
PATH="$work/bin:$PATH" tar -cf "$work/stream" -C "$work/stream.d" a.img a.img.provenance.json a.img.result.json a.img.sha256 .complete-1 .filler-1 result.json .complete
expect "a path is no image's name" 8 'a name that is not allowed' builds

# --- which images need not be made again -------------------------------------------------------------------------------------
fresh
fleet first a.img b.img c.img d.img e.img
builds > /dev/null 2>&1
echo more >> "$out/b.img"
touch -r "$out/a.img" "$out/b.img"
rm "$out/c.img.provenance.json"
printf '{"type": "urn:nixos-image:build:v1", "run": "x"}\n' > "$out/d.img.provenance.json"
sed -i 's/"sha256": "./"sha256": "x/' "$out/e.img.result.json"
ln -s "$out/a.img" "$out/f.img"
: > "$work/stream"
again() {
  : > "$work/orders"
  order out_dir --out "$out"
  order delivered
  run_sh demo -o "$out"
}
again > /dev/null 2> "$work/err"
tar -tf "$work/sent" > "$work/names" 2> /dev/null
check "results of whole images are sent" grep -qx '.delivered/a.img.result.json' "$work/names"
check "with their checksums" grep -qx '.delivered/a.img.sha256' "$work/names"
check "of an image with another content none is sent" sh -c "! grep -q 'delivered/b.img' '$work/names'"
check "nor of one without provenance" sh -c "! grep -q 'delivered/c.img' '$work/names'"
check "nor of one with another file beside it" sh -c "! grep -q 'delivered/d.img' '$work/names'"
check "nor with the result of another image" sh -c "! grep -q 'delivered/e.img' '$work/names'"
# 4 TiB each, which take no space; none has a line end
huge() { for file; do rm -f "$out/$file" && dd if=/dev/null of="$out/$file" bs=1 seek=4398046511104 2> /dev/null; done; }
mkdir "$out/.nixos-image-0-0.part"
huge b.img.provenance.json c.img.result.json d.img.sha256 e.img.sha256 a.img.sha256.sig x.log build.log .nixos-image-0-0.part/holder
expect "files of any size are not read whole" 8 '' again # the stream is empty
tar -tf "$work/sent" > "$work/names" 2> /dev/null
check "what is whole is told as before" grep -qx '.delivered/a.img.result.json' "$work/names"
check "and of the others nothing is sent" sh -c "! grep -q 'delivered/[b-e].img\|sha256.sig' '$work/names'"
rm -rf "$out/b.img.provenance.json" "$out/c.img.result.json" "$out/.nixos-image-0-0.part"
builds > /dev/null 2>&1
tar -tf "$work/sent" > "$work/names" 2> /dev/null
check "without the order none is sent" sh -c "! grep -q 'delivered/.' '$work/names'"
finish
