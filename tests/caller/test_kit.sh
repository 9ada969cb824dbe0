#!/bin/sh
# Tests that `kit import` gives the engine what its manifest says and nothing of a hostile kit: run.sh with a fake Docker. Needs no
# engine.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"

# Fake docker program of an engine without images: it has those that were loaded, by the ids of the kit's manifest. `lies` makes it
# have others, `other` makes the orchestrator's image one of other files. A kit `swap` takes the place of `good.kit` after its check.
fake_docker << 'EOF'
  info*DriverStatus*) [ ! -e "$here/swap" ] || cat "$here/swap" > "$here/good.kit"; [ ! -e "$here/containerd" ] || echo '[[driver-type io.containerd.snapshotter.v1]]' ;;
  load) cat > "$here/loaded" ;;
  tag*) echo "$*" >> "$here/tagged" ;;
  run*' orchestrator kit import'*) cat > "$here/sent" ;;
  'image inspect --format {{.Id}} nixos-image-base') cat "$here/base" ;;
  'image inspect --format {{.Id}} sha256:'*) [ -e "$here/loaded" ] && [ ! -e "$here/lies" ] && echo "${*##* }" ;;
  'image inspect --format {{.Id}} {{'*) echo "$(cat "$here/base") $(cat "$here/source") $(cat "$here/base")" ;;
  'image inspect --format {{index'*) if [ -e "$here/other" ]; then echo other; else echo "$(cat "$here/source") $(cat "$here/base")"; fi ;;
EOF

# A kit as `kit export` writes it, and kits that lie.
cat > "$work/kits.py" << 'EOF'
import hashlib, io, pathlib, subprocess, sys, tarfile
from orchestrator.deliver.kit import KitImage, KitWriter, image_line

work, source, key = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
digest = lambda data: hashlib.sha256(data).hexdigest()
parts = [b"base", b"orchestrator", b"l" * 1500000, b"more"]
names = [digest(part) for part in parts]
images = [
    KitImage("nixos-image-base", names[0], (names[2],)),
    KitImage("nixos-image-runtime", names[0], (names[2],)),
    KitImage("nixos-image-orchestrator", names[1], (names[2], names[3])),
]

def sign(data):
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", "nixos-image-kit", "-f", key]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout

def saved(parts):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, part in enumerate(parts):
            info = tarfile.TarInfo(f"blobs/sha256/{number}")
            info.size = len(part)
            tar.addfile(info, io.BytesIO(part))
    return [buffer.getvalue()]

HEADS = ["version 1", "architecture x86_64", f"source {source}", "key nixos-image:AAAA"]

def kit(name, heads=HEADS, images=images, sign=None, change=None):
    with (work / f"{name}.kit").open("wb") as file:
        writer = KitWriter(file)
        writer.add_images(images, saved(parts))
        writer.add("store.tar", io.BytesIO(b"the store"))
        if change:
            change(writer)
        writer.finish([*heads, *map(image_line, images)], sign)

def rename(old, new):
    """The manifest says `new` where it would say `old`."""
    def change(writer):
        assert any(old in line for line in writer._lines), old
        writer._lines = [line.replace(old, new) for line in writer._lines]
    return change

def member(name, **facts):
    """A further member, with a header that has these facts, which the manifest lists."""
    def change(writer):
        info = tarfile.TarInfo(name)
        for fact, value in facts.items():
            setattr(info, fact, value)
        form = tarfile.GNU_FORMAT if len(name) > 99 or info.size >= 8**11 else tarfile.USTAR_FORMAT
        writer._file.write(info.tobuf(form))
        listed = name if name.isprintable() else "a"
        writer._lines.append(f"file {digest(b'')} {info.size} {listed}\n")
    return change

kit("good")
kit("sources", change=lambda writer: writer.add("sources.tar", io.BytesIO(b"the sources")))
kit("sources-sum", change=lambda writer: (
    writer.add("sources.tar", io.BytesIO(b"the sources")), rename(digest(b"the sources"), digest(b"others"))(writer)))
kit("signed", sign=sign)
kit("alien", sign=lambda data: sign(data + b"x"))
kit("other-checkout", heads=[one.replace(source, "0" * 64) for one in HEADS])
kit("other-cpu", heads=[one.replace("x86_64", "aarch64") for one in HEADS])
kit("key", heads=[*HEADS[:3], "key evil:AAAA"])
kit("line", heads=[*HEADS, "run evil"])
kit("steers", heads=[*HEADS, "version \x1b[2J"])
kit("foreign-tag", images=[*images, KitImage("debian:trixie-slim", names[1], (names[2],))])
kit("our-tag", images=[*images, KitImage("nixos-image-evil", names[1], (names[2],))])
kit("boot-tag", images=[*images, KitImage("nixos-image-boot-a:b", names[1], (names[2],))])
kit("twice", images=[*images, KitImage("nixos-image-base", names[1], (names[2],))])
kit("no-base", images=images[1:])
kit("wrong-sum", change=rename(f"file {names[3]} ", f"file {names[3][::-1]} "))
kit("store-sum", change=rename(digest(b"the store"), digest(b"another")))
kit("size", change=rename(" 9 store.tar", " 8 store.tar"))
kit("unlisted", change=lambda writer: writer._lines.pop())
kit("extra", change=member("evil"))
kit("climbs", change=member("../evil"))
kit("absolute", change=member("/tmp/evil"))
kit("control", change=member("a\x1b[2J"))
kit("link", change=member("store.link", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
kit("hard", change=member("store.link", type=tarfile.LNKTYPE, linkname="store.tar"))
kit("device", change=member("sda", type=tarfile.BLKTYPE, devmajor=8))
kit("pipe", change=member("pipe", type=tarfile.FIFOTYPE))
kit("folder", change=member("folder", type=tarfile.DIRTYPE))
kit("long", change=member("a" * 200))
kit("huge", change=member("a.tar", size=1 << 40))
kit("oversize", change=member("a.tar", size=1 << 30))
kit("like-a-manifest", change=lambda writer: (member("manifest.json")(writer), writer._lines.pop()))
kit("twin", change=member("store.tar"))
good = (work / "good.kit").read_bytes()

def field(name, at, value):
    """The first header has `value` at this place, and the checksum that it should have."""
    head = bytearray(good[:512])
    head[at : at + len(value)] = value
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (work / f"{name}.kit").write_bytes(head + good[512:])

field("twelve", 135, b"1")  # Docker takes twelve digits of the size
field("base256", 124, b"\x80")
field("gnu", 257, b"ustar  \0")
field("no-magic", 257, bytes(8))
field("prefix", 345, b"a")
field("mode", 100, b"0000777")
(work / "cut.kit").write_bytes(good[:-512 * 100])
(work / "shorter.kit").write_bytes(good[:-512])
names_images = io.BytesIO()
with tarfile.open(fileobj=names_images, mode="w") as tar:
    tar.addfile(tarfile.TarInfo("manifest.json"))
(work / "names-images").write_bytes(names_images.getvalue() + good[10240:])
(work / "short").write_bytes(good[:1024])
(work / "behind.kit").write_bytes(good + b"x" * 512)
(work / "header.kit").write_bytes(b"\x01" + good[1:])
(work / "empty.kit").write_bytes(b"")
(work / "zeros.kit").write_bytes(bytes(10240))
(work / "text.kit").write_bytes(b"no kit.\n" * 512)
changed = bytearray(good)
changed[good.index(b"llll") + 5000] ^= 1
(work / "changed.kit").write_bytes(changed)
EOF
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
ssh-keygen -q -t ed25519 -N '' -f "$work/another"
echo "sha256:$(printf base | sha256sum | cut -d ' ' -f 1)" > "$work/base"
base_id=$(cat "$work/base") in_parts source_state > "$work/source"
PYTHONPATH=$project python3 "$work/kits.py" "$work" "$(cat "$work/source")" "$work/key" || exit 1

# import_kit KIT ARGUMENTS...: imports a kit into an engine without images
import_kit() {
  rm -f "$work/loaded" "$work/tagged" "$work/sent"
  : > "$work/orders"
  order kit
  called=$1
  shift
  run_sh kit import "$work/$called.kit" "$@"
}

# gets_nothing: whether the engine has got nothing, and the caller one error of one line
gets_nothing() {
  [ ! -e "$work/loaded" ] && [ ! -e "$work/tagged" ] && [ ! -e "$work/sent" ] && [ "$(grep -c '^error: ' "$work/err")" = 1 ] \
    && ! grep -q "$(printf '\033')" "$work/err"
}

# refused KIT PATTERN ARGUMENTS...: the kit is refused, for this reason
refused() {
  kit=$1 reason=$2
  shift 2
  expect "$kit: refused" 14 "^error: .*$kit.kit is refused: .*$reason" import_kit "$kit" "$@"
  check "$kit: and the engine gets nothing" gets_nothing
}

# has_its_layers: whether each layer of the list of images is a member that its name is the checksum of
has_its_layers() {
  for layer in $(tar -xOf "$work/loaded" manifest.json | grep -o '[0-9a-f]*\.tar'); do
    [ "$(tar -xOf "$work/loaded" "$layer" | sha256sum | cut -d ' ' -f 1).tar" = "$layer" ] || return
  done
}

expect "a kit is imported" 0 '' import_kit good
check "Docker gets three images" sh -c "[ \"\$(tar -xOf '$work/loaded' manifest.json | grep -o Config | wc -l)\" = 3 ]"
check "without names" sh -c "! tar -xOf '$work/loaded' manifest.json | grep -o 'RepoTags\":[^,]*' | grep -v null"
check "each with its layers" has_its_layers
check "and not the store's paths" sh -c "! tar -tf '$work/loaded' | grep -q store"
check "run.sh names them, by their ids" grep -qx "tag $(cat "$work/base") nixos-image-base" "$work/tagged"
check "the orchestrator gets the store's paths, with their checksum and key" sh -c "
  head -n 1 '$work/sent' | grep -qx '$(printf 'the store' | sha256sum | cut -d ' ' -f 1) 9 nixos-image:AAAA' && tail -n +2 '$work/sent' | head -c 9 | grep -qx 'the store'"

expect "a kit with a configuration's sources is imported, which says how to unpack them" 0 'tar -xOf .*sources.kit sources.tar' import_kit sources
check "which the engine does not get" sh -c "! grep -q 'the sources' '$work/loaded' '$work/sent'"
check "and which tar reads" sh -c "tar -xOf '$work/sources.kit' sources.tar | grep -qx 'the sources'"
mv "$work/sources.kit" "$work/it's \$my sources.kit"
expect "also one whose name has a quote, a dollar sign and blanks" 0 '' import_kit "it's \$my sources"
check "the command that is told unpacks it" sh -c "
  sed -n 's/.*sources: \\(tar .*\\) | tar -xf - ;.*/\\1/p' '$work/err' > '$work/told' && sh '$work/told' | grep -qx 'the sources'"
mv "$work/it's \$my sources.kit" "$work/sources.kit"

tar -tf "$work/loaded" > "$work/members"
cp "$work/good.kit" "$work/before"
for swap in names-images short; do
  cp "$work/$swap" "$work/swap"
  expect "a kit that is changed after its check ($swap)" 0 '' import_kit good
  check "Docker gets the members that were checked, and no other" sh -c "tar -tf '$work/loaded' | cmp - '$work/members'"
  rm "$work/swap"
  cp "$work/before" "$work/good.kit"
done

expect "a signed kit is imported by its key" 0 '' import_kit signed --public-key "$work/key.pub"
refused "signed" 'the key in .* has not signed it' --public-key "$work/another.pub"
refused "alien" 'the key in .* has not signed it' --public-key "$work/key.pub"
refused "good" 'it is not signed' --public-key "$work/key.pub"
expect "a key that is not there" 2 '^error: --public-key: ' import_kit good --public-key "$work/none"
expect "a private key in place of the public one" 2 '^error: --public-key: .* is a private key' import_kit signed --public-key "$work/key"
expect "an empty key" 2 '^error: --public-key: ' import_kit good --public-key=
expect "an option that is misspelled" 2 '^error: kit import: unrecognized option' import_kit good --public-kye "$work/key.pub"
check "is no import" gets_nothing
expect "a kit that is not there" 2 '^error: .*no such file' import_kit none

refused "other-checkout" 'another checkout'
refused "other-cpu" 'another CPU'
refused "key" 'its key is none'
refused "line" 'a line that is not known'
refused "steers" 'its manifest is damaged'
refused "foreign-tag" 'a name that is not ours'
refused "our-tag" 'a name that is not ours'
refused "boot-tag" 'a name that is not ours'
refused "twice" 'two images nixos-image-base'
refused "no-base" 'an image is missing'
refused "wrong-sum" 'a member that no kit has'
refused "store-sum" 'store.tar has changed: wrong checksum'
refused "sources-sum" 'sources.tar has changed: wrong checksum'
refused "changed" 'has changed: wrong checksum'
refused "size" 'lists other members'
refused "unlisted" 'lists other members'
refused "extra" 'a member that no kit has'
refused "climbs" 'no plain file with a simple name'
refused "absolute" 'no plain file with a simple name'
refused "control" 'no plain file with a simple name'
refused "link" 'no plain file with a simple name'
refused "hard" 'no plain file with a simple name'
refused "device" 'no plain file with a simple name'
refused "pipe" 'no plain file with a simple name'
refused "folder" 'no plain file with a simple name'
refused "long" 'no plain file with a simple name'
refused "huge" 'no plain file with a simple name'
refused "header" 'no plain file with a simple name'
refused "text" 'no plain file with a simple name'
refused "twelve" 'no plain file with a simple name'
refused "base256" 'no plain file with a simple name'
refused "gnu" 'no plain file with a simple name'
refused "no-magic" 'no plain file with a simple name'
refused "prefix" 'no plain file with a simple name'
refused "mode" 'no plain file with a simple name'
refused "like-a-manifest" 'lists other members'
refused "empty" 'no plain file with a simple name'
refused "oversize" 'cut off'
refused "cut" 'cut off'
refused "shorter" 'cut off at its end'
refused "twin" 'the same name'
refused "behind" 'more behind its end'
refused "zeros" 'more behind its end'

: > "$work/containerd"
expect "an engine with containerd's image store: refused" 4 "^error: .*containerd's store" import_kit good
check "before it gets anything" gets_nothing
rm "$work/containerd"
: > "$work/lies"
expect "an engine that makes other images of it: refused" 14 'other images' import_kit good
check "and no image gets a name" [ ! -e "$work/tagged" ]
rm "$work/lies"
: > "$work/other"
expect "an orchestrator of other files: refused" 14 'other files' import_kit good
check "and gets no name" [ ! -e "$work/tagged" ]

finish
