# Image of the service builder: Nix, the image tools, the agents, an unprivileged user.
FROM nixos-image-orchestrator AS files
RUN orchestrator/agents/builder/compile.sh /files \
 && cp -a --parents locks/clover.json locks/debian.json flake.lock nix orchestrator/__init__.py orchestrator/agents orchestrator/image orchestrator/shared /files \
 && mkdir /fetcher \
 && cp -a --parents locks/debian.json orchestrator/__init__.py orchestrator/agents orchestrator/shared /fetcher

# Nix, fetched by hash or by apt's signed index (orchestrator/agents/builder/nix_package.py), with its own libraries beside it.
FROM nixos-image-runtime AS nix
ARG NIXOS_IMAGE_LOCKED=
COPY --from=files /fetcher .
RUN python3 -m orchestrator.agents.builder.nix_package locks/debian.json /opt/nix ${NIXOS_IMAGE_LOCKED:+--locked}

FROM nixos-image-runtime
ENV PATH=/opt/nix/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY --from=nix /opt/nix /opt/nix
COPY --from=files /files .
USER builder
