# builder: Nix, the image tools, the agents, an unprivileged user.
FROM nixos-image-orchestrator AS files
RUN orchestrator/agents/builder/compile.sh /files \
 && cp -a --parents locks/clover.json locks/debian.json flake.lock nix orchestrator/__init__.py orchestrator/agents orchestrator/image orchestrator/shared /files

FROM nixos-image-runtime
COPY --from=files /files .
USER builder
