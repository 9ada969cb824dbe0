# Image of the service boot, which starts a finished image in QEMU and logs in over SSH. One for each architecture of the guest
# that needs more packages than all images have; the others use the orchestrator's image.
ARG ORCHESTRATOR=nixos-image-orchestrator
ARG RUNTIME=nixos-image-runtime
FROM ${ORCHESTRATOR} AS files
RUN mkdir /files \
 && cp -a --parents orchestrator/__init__.py orchestrator/agents orchestrator/image orchestrator/shared /files

FROM ${RUNTIME}
# PACKAGES is what the guest needs besides what all images have.
ARG PACKAGES=
# hadolint ignore=SC2086
RUN dpkg -s dpkg $PACKAGES > /dev/null 2>&1 \
 || { apt-get update -q \
   && apt-get install -qy --no-install-recommends $PACKAGES \
   && rm -rf /var/lib/apt/lists/*; }
COPY --from=files /files .
