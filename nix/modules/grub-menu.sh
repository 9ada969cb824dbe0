# shellcheck shell=sh
# Writes /boot/grub/grub.cfg: TOPLEVEL ($1) first, then the system's generations, newest first. Environment: TIMEOUT in seconds;
# LIMIT of generations; KERNELS, the folder on the boot partition that kernels are copied to, empty if GRUB reads them from the
# store.
set -eu
profiles=/nix/var/nix/profiles
menu=/boot/grub/grub.cfg

# place FILE: print the path under which GRUB finds it; copies it to KERNELS if needed.
place() {
  path=$(readlink -f "$1")
  if [ -z "$KERNELS" ]; then
    echo "$path"
    return
  fi
  name=$(echo "${path#/nix/store/}" | tr / -)
  if [ ! -e "/boot/$KERNELS/$name" ]; then
    cp "$path" "/boot/$KERNELS/$name.new"
    mv "/boot/$KERNELS/$name.new" "/boot/$KERNELS/$name"
  fi
  echo "$name" >>"$menu.used"
  echo "/$KERNELS/$name"
}

# words TEXT: quote its words for GRUB's script language.
words() {
  set -f # a kernel parameter may contain *
  for word in $1; do
    case $word in
      *[!A-Za-z0-9_./:,=@%+-]*) printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")" ;;
      *) printf ' %s' "$word" ;;
    esac
  done
  set +f
}

# entry SYSTEM NUMBER [SPECIALISATION]
entry() {
  title=NixOS${3:+" ($3)"}
  printf 'menuentry "%s - Generation %s %s" --id "nixos-generation-%s%s" {\n' \
    "$title" "$2" "$(cat "$1/nixos-version")" "$2" "${3:+-specialisation-$3}"
  printf '  linux %s init=%s/init%s\n' "$(place "$1/kernel")" "$(readlink -f "$1")" "$(words "$(cat "$1/kernel-params")")"
  if [ -e "$1/initrd" ]; then
    printf '  initrd %s\n' "$(place "$1/initrd")"
  fi
  printf '}\n'
}

entries() {
  entry "$1" "$2"
  for special in "$1"/specialisation/*; do
    if [ -e "$special" ]; then
      entry "$special" "$2" "${special##*/}"
    fi
  done
}

mkdir -p /boot/grub ${KERNELS:+"/boot/$KERNELS"}
: >"$menu.used"
default=$(readlink -f "$1")
numbers=$(
  for link in "$profiles"/system-*-link; do
    number=${link%-link}
    echo "${number##*-}"
  done | grep -x '[0-9]*' | sort -rn | head -n "$LIMIT"
)
newest=1
for number in $numbers; do
  if [ "$(readlink -f "$profiles/system-$number-link")" = "$default" ]; then
    newest=$number
    break
  fi
done
{
  printf 'serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\nset timeout=%s\n' "$TIMEOUT"
  entries "$default" "$newest"
  for number in $numbers; do
    if [ "$number" != "$newest" ]; then
      entries "$profiles/system-$number-link" "$number"
    fi
  done
} >"$menu.new"
sync -f "$menu.new"
mv "$menu.new" "$menu"
if [ -n "$KERNELS" ]; then
  for file in "/boot/$KERNELS"/*; do
    grep -qxF "${file##*/}" "$menu.used" || rm "$file"
  done
fi
rm "$menu.used"
