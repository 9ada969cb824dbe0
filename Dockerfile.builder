# builder: Nix, the image tools, the agents, an unprivileged user.
FROM nixos-image-runtime AS compiled
COPY orchestrator/image/*.c orchestrator/image/filesystems/*.c orchestrator/agents/builder/*.c ./
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends tcc libc6-dev libext2fs-dev libssl-dev \
 && tcc -Wall -Werror -shared -o still.so still.c \
 && tcc -Wall -Werror -shared -o bulk.so bulk.c -lext2fs \
 && tcc -Wall -Werror -shared -o readonly.so readonly.c \
 && tcc -Wall -Werror -o pack pack.c -lcrypto

FROM nixos-image-orchestrator AS files
COPY --from=compiled /opt/nixos-image/*.so /opt/nixos-image/pack ./
RUN mkdir /files \
 && cp -a --parents ./*.so pack locks/clover.json locks/debian.json flake.lock nix orchestrator/__init__.py orchestrator/agents orchestrator/image orchestrator/shared /files

FROM nixos-image-runtime
COPY orchestrator/shared/filesystems.toml orchestrator/shared/
# hadolint ignore=SC2086
RUN packages=$(python3 -c 'import tomllib; \
      rows = tomllib.load(open("orchestrator/shared/filesystems.toml", "rb"))["filesystem"]; \
      print(*(package for row in rows for package in row.get("packages", [])))') \
 && apt-get update -q \
 && apt-get install -qy --no-install-recommends nix-bin fdisk busybox-static grub-common qemu-utils zstd xz-utils pigz \
      $packages \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home builder \
 # Nix as a user needs these to be its own; a fresh volume takes them over as they are. The lease's stays root's (Podman).
 && mkdir -p /nix/store /nix/var/nix/builds /var/nixos-image /run/nixos-image/lease \
 && chown -R builder /nix /var/nixos-image
COPY --from=files /files .
USER builder
