# Image of the service boot, which starts a finished image in QEMU and logs in over SSH. One per architecture of the guest.
FROM nixos-image-orchestrator AS files
RUN mkdir /files \
 && cp -a --parents orchestrator/__init__.py orchestrator/agents orchestrator/image orchestrator/shared /files

FROM nixos-image-runtime
# PACKAGES is what the guest needs besides what all images have; the default guest needs nothing. The firmware packages bring
# 400 MB of flash images: only the small one, which -bios takes, is unpacked.
ARG PACKAGES=
# hadolint ignore=SC2086
RUN dpkg -s dpkg $PACKAGES > /dev/null 2>&1 \
 || { apt-get update -q \
   && apt-get install -qy --no-install-recommends -o Dpkg::Options::=--path-exclude='/usr/share/AAVMF/*' $PACKAGES \
   && rm -rf /var/lib/apt/lists/*; }
COPY --from=files /files .
USER builder
