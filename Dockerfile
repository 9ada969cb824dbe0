# Image of the orchestrator: the checkout's own files on top of what all images share (Dockerfile.runtime).
ARG RUNTIME=nixos-image-runtime
FROM ${RUNTIME}
COPY . .
# Compile Python modules once: otherwise each start of a container compiles them. The classic builder's RUN sees no files but the
# image's: this is a step of its own.
RUN python3 -m compileall -q orchestrator
