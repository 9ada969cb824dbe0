#!/bin/sh
# Benchmark of assembly: this project, nixpkgs' own commands under emulation, and the lower bound of any tool. Needs the container
# images of `./run.sh demo`, Linux 6.7, 30 GB of disk space and 15 minutes. Prints a table; writes
# benchmarks/results/assembly.json and docs/assembly.svg. docs/performance.md explains it.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
label=org.nixos-image=true
volume=nixos-image-assembly
folder=/nix/benchmark
builder=
emulator=

# shellcheck disable=SC2317  # called from the trap
finish() {
  # An interpreter that a container has registered ends with it.
  for container in $builder $emulator; do docker rm --force "$container" > /dev/null; done
  docker volume rm --force $volume > /dev/null
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# send CONTAINER: copies the benchmark's programs to it; no bind mount, because the engine may be on another computer
send() {
  for file in assembly.py emulated.py measuring.py peers.sh; do
    docker exec --interactive "$1" sh -c "mkdir -p $folder && cat > $folder/$file" < "$project/benchmarks/$file"
  done
}

measure() { docker exec "$1" python3 $folder/assembly.py "$2"; }

# A new volume gets the image's /nix, which belongs to the builder's user.
docker volume create --label $label $volume > /dev/null
builder=$(docker run --detach --init --label $label --cap-drop ALL --security-opt no-new-privileges:true --network none \
  --volume $volume:/nix ${BENCHMARK_GROUP_MIB:+--env BENCHMARK_GROUP_MIB} --entrypoint sleep nixos-image-builder infinity)
send "$builder"
measure "$builder" native

# Capabilities: mmdebstrap unpacks the arm64 tree, and chroot(2) enters it; with SETFCAP a process may create a user namespace
# that maps root to root. That namespace has its own binfmt_misc.
emulator=$(docker run --detach --init --label $label --cap-drop ALL --cap-add SYS_ADMIN --cap-add SYS_CHROOT \
  --cap-add SETUID --cap-add SETGID --cap-add SETFCAP --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER \
  --security-opt apparmor=unconfined --volume $volume:/nix --entrypoint sleep \
  nixos-image-qemu-setup infinity)
docker exec "$emulator" sh -euc '
  tree=$1/arm64
  packages=base-files,bash,coreutils,dash,diffutils,dosfstools,e2fsprogs,fakeroot,faketime,fdisk,findutils,gawk,grep
  packages=$packages,libfaketime,mtools,sed,util-linux,zstd
  apt-get update -q
  apt-get install -qy --no-install-recommends mmdebstrap
  # Packages are only unpacked, so that no foreign program runs before the measurement; links that their configuration makes are
  # made here.
  mmdebstrap --mode=root --variant=extract --architectures=arm64 --skip=check/qemu --include=$packages \
    trixie "$tree" /etc/apt/sources.list
  ln -s fakeroot-sysv "$tree/usr/bin/fakeroot"
  ln -s gawk "$tree/usr/bin/awk"' sh $folder > /dev/null 2>&1
docker exec "$emulator" unshare --user --mount --map-users=0:0:65536 --map-groups=0:0:65536 \
  python3 $folder/emulated.py $folder/arm64

mkdir -p "$project/benchmarks/results"
measure "$builder" json > "$project/benchmarks/results/assembly.json"
measure "$builder" svg > "$project/docs/assembly.svg"
measure "$builder" table
