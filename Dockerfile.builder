# builder: Nix, the image tools, the agents, an unprivileged user.
FROM nixos-image-runtime AS still
COPY orchestrator/image/still.c .
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends tcc libc6-dev \
 && tcc -Wall -Werror -shared -o still.so still.c

FROM nixos-image-orchestrator AS files
COPY --from=still /opt/nixos-image/still.so .
RUN mkdir /files \
 && cp -a --parents still.so locks/debian.json nix orchestrator/__init__.py orchestrator/agents orchestrator/image /files

FROM nixos-image-runtime
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends nix-bin e2fsprogs libarchive13t64 dosfstools mtools fdisk \
      grub-common qemu-utils zstd xz-utils pigz erofs-utils btrfs-progs xfsprogs \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home builder \
 # Nix as a user needs these to be its own; a fresh volume takes them over as they are.
 && mkdir -p /nix/store /nix/var/nix/builds /var/nixos-image \
 && chown -R builder /nix /var/nixos-image
COPY --from=files /files .
USER builder
