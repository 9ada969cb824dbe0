# Image of the orchestrator: the checkout's own files on top of what all images share (Dockerfile.runtime).
ARG RUNTIME=nixos-image-runtime
FROM ${RUNTIME}
COPY . .
# Compile Python modules once: otherwise each start of a container compiles them.
RUN python3 -m compileall -q orchestrator
