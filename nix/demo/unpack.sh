# A Debian package's files as a tree (deb(5): an ar archive). Nix drops owners and times.
mkdir "$out"
cd "$out" || exit
ar p "$deb" data.tar.xz | tar -xJf -
