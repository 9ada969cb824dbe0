# Image of the service builder: Nix, the image tools, the agents. compose.yaml gives its containers an unprivileged user.
ARG ORCHESTRATOR=nixos-image-orchestrator
ARG RUNTIME=nixos-image-runtime
FROM ${ORCHESTRATOR} AS files
ARG NIXOS_IMAGE_LOCKED=
# Nix is fetched by hash or by apt's signed index (orchestrator/agents/builder/nix_package.py), with its own libraries beside it.
RUN orchestrator/agents/builder/compile.sh /files/opt/nixos-image \
 && cp -a --parents locks/clover.json locks/debian.json flake.lock nix orchestrator/__init__.py orchestrator/agents orchestrator/image orchestrator/shared /files/opt/nixos-image \
 && python3 -m orchestrator.agents.builder.nix_package locks/debian.json /opt/nix ${NIXOS_IMAGE_LOCKED:+--locked} \
 && mv /opt/nix /files/opt

FROM ${RUNTIME}
COPY --from=files /files /
