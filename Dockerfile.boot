# boot: starts a finished image in QEMU and logs in over SSH. One image per architecture of the guest.
FROM nixos-image-orchestrator AS files
RUN mkdir /files \
 && cp -a --parents orchestrator/__init__.py orchestrator/agents orchestrator/image orchestrator/shared /files

FROM nixos-image-runtime
ARG GUEST=aarch64
COPY orchestrator/shared/architectures.toml orchestrator/shared/
# The firmware package brings 400 MB of flash images: only the small one, which -bios takes, is unpacked.
# hadolint ignore=SC2086
RUN packages=$(python3 -c 'import sys, tomllib; \
      rows = tomllib.load(open("orchestrator/shared/architectures.toml", "rb"))["architecture"]; \
      print(*next(row["guest"]["packages"] for row in rows if row["name"] == sys.argv[1]))' "$GUEST-linux") \
 && apt-get update -q \
 && apt-get install -qy --no-install-recommends -o Dpkg::Options::=--path-exclude='/usr/share/AAVMF/*' \
      $packages openssh-client e2fsprogs fdisk qemu-utils zstd xz-utils \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home boot
COPY --from=files /files .
USER boot
