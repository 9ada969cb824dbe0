# The shared libraries that dropbear needs, in one folder: the root file system's /lib points here.
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
