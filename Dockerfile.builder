# builder: Nix, the image tools, the agents, an unprivileged user.
FROM nixos-image-runtime AS still
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends tcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY orchestrator/image/still.c .
RUN tcc -Wall -Werror -shared -o still.so still.c

FROM nixos-image-runtime
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends nix-bin e2fsprogs libarchive13t64 dosfstools mtools fdisk \
      grub-common qemu-utils zstd xz-utils pigz erofs-utils btrfs-progs xfsprogs \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home builder \
 # Nix as a user needs these to be its own; a fresh volume takes them over as they are.
 && mkdir -p /nix/store /nix/var/nix/builds /var/nixos-image \
 && chown -R builder /nix /var/nixos-image
COPY --from=still /opt/nixos-image/still.so .
COPY locks/debian.json locks/
COPY nix nix
COPY orchestrator/__init__.py orchestrator/
COPY orchestrator/agents orchestrator/agents
COPY orchestrator/image orchestrator/image
RUN python3 -m compileall -q orchestrator
USER builder
ENTRYPOINT ["python3", "-m"]
CMD ["orchestrator.agents.builder"]
