#!/bin/sh
# Makes the file system of simulated Docker hosts: Debian with Docker and Podman. Takes a minute and 1.3 GB.
#
#   tests/simulated_hosts/make-tree.sh FOLDER trixie|sid
set -eu
tree=$1 suite=$2
base=nixos-image-base
mkdir "$tree.part"
trap 'exit 143' INT TERM
container=$(docker create "$base" true)
trap 'docker rm -f "$container" > /dev/null' EXIT
docker export "$container" | tar -xf - -C "$tree.part"
docker rm "$container" > /dev/null
trap - EXIT
cp /etc/resolv.conf "$tree.part/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' > "$tree.part/usr/sbin/policy-rc.d" # forbids packages to start services
chmod 755 "$tree.part/usr/sbin/policy-rc.d"
for sources in "$tree.part/etc/apt/sources.list" "$tree.part/etc/apt/sources.list.d/debian.sources"; do
  # sid has neither updates nor a security archive.
  [ "$suite" = trixie ] || [ ! -e "$sources" ] || sed -i -e "/-security/d; /^deb.*-updates/d; s/ trixie-updates//; s/ trixie/ $suite/" "$sources"
done
# shellcheck disable=SC2016  # another shell's program
unshare -m --propagation private sh -c '
  for folder in proc sys dev; do mount --rbind /$folder "$1/$folder"; done
  exec chroot "$1" env DEBIAN_FRONTEND=noninteractive LC_ALL=C sh -ec "
    apt-get -o Acquire::Check-Valid-Until=false update -q
    apt-get install -yq --no-install-recommends docker.io docker-cli containerd runc rootlesskit slirp4netns passt uidmap \
      fuse-overlayfs podman crun netavark aardvark-dns golang-github-containers-common docker-registry iptables nftables \
      iproute2 procps ca-certificates openssh-server qemu-user
    apt-get clean
    useradd -m -u 7001 -s /bin/bash rootless
    useradd -r -s /usr/sbin/nologin dockremap
    for file in /etc/subuid /etc/subgid; do printf \"rootless:200000:65536\ndockremap:300000:65536\n\" > \$file; done"' sh "$tree.part"
mv "$tree.part" "$tree"
