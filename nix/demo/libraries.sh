# Collects the shared libraries of dropbear, fdisk and e2fsprogs in one folder, which the image's /lib links to.
. "$applets"
mkdir -p "$out/lib"
for tree in $trees; do
  find "$tree/usr/lib" -name '*.so*' | while read -r library; do
    case $library in */gconv/* | */audit/*) continue ;; esac
    name=$(basename "$library")
    [ -e "$out/lib/$name" ] || cp -L "$library" "$out/lib/$name"
  done
done
chmod +x "$out"/lib/ld-linux*
