# Unpacks a Debian package (deb(5): an ar archive) as a store path.
mkdir "$out"
cd "$out" || exit
ar p "$deb" data.tar.xz | tar -xJf -
