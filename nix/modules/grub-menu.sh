# shellcheck shell=sh
# Writes /boot/grub/grub.cfg: TOPLEVEL ($1) first, then the system's generations, newest first. Environment: TIMEOUT in seconds;
# LIMIT of generations; DISTRO, the system's name; SETTINGS, a folder with a file for each setting of the menu (its names are those
# of grub-settings.nix); KERNELS, the folder on the boot partition that kernels are copied to, empty if GRUB reads them from the
# store.
set -eu
profiles=/nix/var/nix/profiles
menu=/boot/grub/grub.cfg
root=/boot
[ -z "$KERNELS" ] || root=

# setting NAME: print a setting
setting() { [ ! -e "$SETTINGS/$1" ] || cat "$SETTINGS/$1"; }

# theme: copy the theme, print the commands that load it
theme() {
  rm -rf /boot/theme
  [ -e "$SETTINGS/theme" ] || return 0
  cp -rL --no-preserve=mode "$SETTINGS/theme" /boot/theme
  printf 'set theme=%s/theme/theme.txt\nexport theme\n' "$root"
  (cd /boot/theme && find . -iname '*.pf2' | LC_ALL=C sort) | while read -r font; do
    printf 'loadfont %s/theme/%s\n' "$root" "${font#./}"
  done
}

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

# entry SYSTEM NUMBER OPTIONS [SPECIALISATION]
entry() {
  title=$DISTRO${4:+" ($4)"}
  printf 'menuentry "%s - Generation %s %s" --id "nixos-generation-%s%s"%s {\n' \
    "$title" "$2" "$(cat "$1/nixos-version")" "$2" "${4:+-specialisation-$4}" "${3:+ $3}"
  setting perEntry
  printf '  linux %s init=%s/init%s\n' "$(place "$1/kernel")" "$(readlink -f "$1")" "$(words "$(cat "$1/kernel-params")")"
  if [ -e "$1/initrd" ]; then
    printf '  initrd %s\n' "$(place "$1/initrd")"
  fi
  printf '}\n'
}

# entries SYSTEM NUMBER OPTIONS
entries() {
  entry "$1" "$2" "$3"
  for special in "$1"/specialisation/*; do
    if [ -e "$special" ]; then
      entry "$special" "$2" "" "${special##*/}"
    fi
  done
}

mkdir -p /boot/grub ${KERNELS:+"/boot/$KERNELS"}
[ ! -e "$SETTINGS/files" ] || cp -rL --no-preserve=mode "$SETTINGS/files/." /boot/
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
  setting head
  theme
  setting settings
  setting before
  entries "$default" "$newest" "$(setting entryOptions)"
  setting after
  for number in $numbers; do
    if [ "$number" != "$newest" ]; then
      entries "$profiles/system-$number-link" "$number" "$(setting subEntryOptions)"
    fi
  done
} >"$menu.new"
chmod 600 "$menu.new" # it may have passwords
sync -f "$menu.new"
mv "$menu.new" "$menu"
if [ -n "$KERNELS" ]; then
  for file in "/boot/$KERNELS"/*; do
    grep -qxF "${file##*/}" "$menu.used" || rm "$file"
  done
fi
rm "$menu.used"
