# builder: Nix, the image tools, the agents, an unprivileged user.
FROM nixos-image-runtime
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends nix-bin e2fsprogs libarchive13t64 dosfstools mtools fdisk \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home builder \
 # Nix as a user needs these to be its own; a fresh volume takes them over as they are.
 && mkdir -p /nix/store /nix/var/nix/builds /var/nixos-image \
 && chown -R builder /nix /var/nixos-image
COPY locks/debian.json locks/
COPY nix nix
COPY orchestrator/__init__.py orchestrator/
COPY orchestrator/agents orchestrator/agents
COPY orchestrator/image orchestrator/image
RUN python3 -m compileall -q orchestrator
USER builder
ENTRYPOINT ["python3", "-m"]
CMD ["orchestrator.agents.builder"]
