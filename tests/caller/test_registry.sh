#!/bin/sh
# Tests that run.sh takes from a registry what this checkout would build and nothing else: run.sh, in a copy of the checkout, with a
# fake Docker. Needs no engine.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"

# Fake docker program of an engine that has what was tagged. What is pulled has the id that the file `gives` has, or the one that
# locks/images says; where `away` is, the registry neither gives nor takes. Where `current` is, this checkout's images are there.
# Builds fail, and leave `built`.
fake_docker << 'EOF'
  pull*) echo "$*" >> "$here/pulled"; if [ -e "$here/away" ]; then echo "no route to host" >&2; exit 1; fi ;;
  push*) echo "$*" >> "$here/pushed"; if [ -e "$here/away" ]; then echo "denied" >&2; exit 1; fi ;;
  tag*) echo "$2 $3" >> "$here/tagged"; [ "$3" != nixos-image-orchestrator ] || : > "$here/current" ;;
  rmi*) echo "$*" >> "$here/removed" ;;
  info*Architecture*) if [ -e "$here/cpu" ]; then cat "$here/cpu"; else echo x86_64; fi ;;
  'image inspect reg'*@*) [ -e "$here/had" ] ;;
  'image inspect --format {{.Id}} '*@*) if [ -e "$here/gives" ]; then cat "$here/gives"; else cat "$here/base"; fi ;;
  'image inspect --format {{range'*) for name in base runtime orchestrator builder qemu-setup; do echo "reg.example/me/nixos-image-$name@$(cat "$here/digest")"; done ;;
  'image inspect --format {{.Id}} {{'*) [ -e "$here/current" ] && echo "$(cat "$here/base") $(cat "$here/source") $(cat "$here/base")" ;;
  'image inspect --format {{index'*) [ -e "$here/current" ] && echo "$(cat "$here/source") $(cat "$here/base")" ;;
  'image inspect --format {{.Id}} '*) { [ -e "$here/current" ] || [ -e "$here/tagged" ]; } && cat "$here/base" ;;
  'image inspect nixos-image-base') [ -e "$here/current" ] ;;
  'build '* | run*compileall*) : > "$here/built"; exit 1 ;;
EOF

mkdir "$work/checkout"
(cd "$project" && cp -RPp caller compose.yaml Dockerfile.* docs flake.lock locks nix orchestrator pyproject.toml run.sh "$work/checkout")
rm -f "$work/checkout/locks/images"
echo "sha256:$(printf %064d 7)" > "$work/base"
echo "sha256:$(printf %064d 9)" > "$work/digest"
state_of() { base_id=$(cat "$work/base") root=$work/checkout in_parts source_state; }
state_of > "$work/source"
order nothing

# list CPU SOURCE: writes locks/images
list() {
  echo "registry reg.example/me"
  for name in base runtime orchestrator builder qemu-setup:latest; do echo "$1 $2 nixos-image-$name $(cat "$work/base") $(cat "$work/digest")"; done
} > "$work/checkout/locks/images"

# call ARGUMENTS...: runs the copy's run.sh on an engine without images
call() {
  for left in pulled pushed tagged removed built current; do rm -f "${work:?}/$left"; done
  again "$@"
}

# again ARGUMENTS...: runs it on the engine as it is
# shellcheck disable=SC2086  # a command's words
again() {
  NIXOS_IMAGE_REGISTRY=${from-} SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$PATH" \
    timeout 60 ${NIXOS_IMAGE_TEST_SHELL:-} "$work/checkout/run.sh" "$@"
}

# builds NAME REASON: run.sh says why it builds in one line, and takes no image from the registry
builds() {
  expect "$1" 3 "$2" call store
  check "$1: one line says so" [ "$(grep -cE -- "$2" "$work/err")" = 1 ]
  check "$1: run.sh builds" [ -e "$work/built" ]
  check "$1: no image gets a name" [ "$(grep -c "^sha256" "$work/tagged")" = 0 ]
}

list x86_64 "$(cat "$work/source")"
expect "the list of digests makes no image old" 0 '' [ "$(state_of)" = "$(cat "$work/source")" ]
expect "images of this checkout are pulled" 0 '' call store
check "by their digests" [ "$(grep -c "^pull --quiet reg.example/me/nixos-image-[a-z-]*@$(cat "$work/digest")\$" "$work/pulled")" = 5 ]
check "and named by their ids" grep -qx "$(cat "$work/base") nixos-image-qemu-setup:latest" "$work/tagged"
check "nothing is built" [ ! -e "$work/built" ]
check "their digests go" [ "$(grep -c "^rmi reg.example/me/nixos-image-[a-z-]*@$(cat "$work/digest")\$" "$work/removed")" = 5 ]
: > "$work/had"
expect "images that the caller has under their digests" 0 '' call store
check "keep these" [ ! -e "$work/removed" ]
rm "$work/had"
call store
rm "$work/pulled"
expect "images that are there" 0 '' again store
check "are not pulled again" [ ! -e "$work/pulled" ]

from=other.example:5000/them
expect "NIXOS_IMAGE_REGISTRY names another registry with them" 0 '' call store
check "which is asked by the same digests" grep -qx "pull --quiet other.example:5000/them/nixos-image-base@$(cat "$work/digest")" "$work/pulled"
for from in --evil https://reg.example/me reg.example/; do
  expect "what is no registry is refused" 2 'not the name of a registry' call store
done
from=none
expect "none" 3 '' call store
check "means building" [ -e "$work/built" ]
from=

echo "sha256:$(printf %064d 8)" > "$work/gives"
builds "a registry that gives another image" 'is another one than locks/images says: images are built'
check "and what it gave is removed" grep -qx "rmi reg.example/me/nixos-image-base@$(cat "$work/digest")" "$work/removed"
: > "$work/had"
builds "another image that was there before" 'is another one than locks/images says: images are built'
check "stays" [ ! -e "$work/removed" ]
rm "$work/gives" "$work/had"
: > "$work/away"
builds "a registry that is away" 'reg.example/me does not give nixos-image-base \(no route to host\): images are built'
rm "$work/away"
list x86_64 "$(printf %064d 0)"
builds "digests of other files" "other files than this checkout's: they are built"
check "digests of other files: the registry is not asked" [ ! -e "$work/pulled" ]
list aarch64 "$(cat "$work/source")"
builds "digests for another CPU" 'no images for this CPU: they are built'
for cpu in '.*' 'a\|aarch64' 'x86_64
aarch64' '-f' 'a/b' ''; do
  printf '%s\n' "$cpu" > "$work/cpu"
  builds "an engine whose CPU is $(printf %s "$cpu" | tr '\n' ,)" 'no images for this CPU: they are built'
  check "such an engine pulls nothing" [ ! -e "$work/pulled" ]
done
rm "$work/cpu"
list x86_64 "$(cat "$work/source")"
sed 's/nixos-image-builder/debian/' "$work/checkout/locks/images" > "$work/changed"
cp "$work/changed" "$work/checkout/locks/images"
builds "a line about an image that is not ours" 'not as it should be: images are built'
rm "$work/checkout/locks/images"
from=reg.example/me
builds "a registry without digests" 'has no digests of images'
from=

# --- images push --------------------------------------------------------------------------------------------------

list aarch64 "$(printf %064d 3)"
: > "$work/orders"
order terminal
order push_images reg.example/me
rm -f "$work/pushed"
: > "$work/current"
expect "images are pushed" 0 'commit it' again images push reg.example/me
check "under the CPU's name and the files' checksum" grep -qx "push --quiet reg.example/me/nixos-image-builder:x86_64-$(printf %.16s "$(cat "$work/source")")" "$work/pushed"
check "their digests are in locks/images" grep -qx "x86_64 $(cat "$work/source") nixos-image-qemu-setup:latest $(cat "$work/base") $(cat "$work/digest")" "$work/checkout/locks/images"
check "beside those for other CPUs" [ "$(grep -c '^aarch64 ' "$work/checkout/locks/images")" = 5 ]
check "with one registry" [ "$(grep -c '^registry ' "$work/checkout/locks/images")" = 1 ]
cp "$work/checkout/locks/images" "$work/before"
echo '[a-z].*' > "$work/cpu"
rm "$work/pushed"
expect "an engine whose CPU is a pattern" 3 'does not tell which CPU it has' again images push reg.example/me
check "takes no line out of the list" cmp "$work/before" "$work/checkout/locks/images"
check "and nothing is pushed" [ ! -e "$work/pushed" ]
rm "$work/cpu"
: > "$work/away"
expect "a registry that takes nothing" 11 'does not take nixos-image-base: denied' again images push reg.example/me
check "leaves the list as it was" cmp "$work/before" "$work/checkout/locks/images"
rm "$work/away"
expect "an orchestrator that names another registry is refused" 70 'an order that run.sh refuses' again images push other.example/me

finish
