# shellcheck shell=bash disable=SC1090,SC2154
# Makes the stand-in of one package: unpacks $debs into the first output, relinks them, runs $fixup; the other outputs are links to
# the same files.
. "$unpack"
read -r first others <<<"$outputs"
first=${!first}

if [ -n "$debs" ]; then
  # shellcheck disable=SC2086
  unpack "$first" $debs
  relink "$first"
  # Replace Debian's paths in units, udev rules and D-Bus services by this package's.
  while IFS= read -r file; do
    { grep -oE '/(usr/)?(s?bin|lib)/[A-Za-z0-9@._/-]+' "$file" || [ $? = 1 ]; } | sort -u | while read -r path; do
      own=$first/$(sed -E 's,^/(usr/)?,,; s,^sbin,bin,' <<<"$path")
      [ ! -e "$own" ] || printf '%s\n' "s,(^|[^A-Za-z0-9._-])$path\b,\1$own,g"
    done >expressions
    sed -E -i -f expressions "$file"
  done < <(find "$first"/lib/{systemd/{system,user},udev/rules.d} "$first/share/dbus-1" -type f 2>/dev/null)
fi
eval "$fixup"
[ -e "$first" ] || mkdir -p "$first"/{bin,lib}
[ -f "$first" ] || ln -sfn bin "$first/sbin"

for output in $others; do
  mkdir "${!output}"
  case $output in
    man | doc | info | devdoc) ;;
    *)
      cp -as --no-clobber "$first/." "${!output}/"
      # NixOS collects these folders from all outputs, and must not find them twice.
      rm -rf "${!output}"/lib/systemd/{system,user} "${!output}/lib/udev"
      ;;
  esac
done
