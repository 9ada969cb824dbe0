# A Debian package's files as a tree. Nix drops owners and times; dpkg-deb keeps names, links and executable bits.
PATH=/usr/bin:/bin
dpkg-deb -x "$deb" "$out"
