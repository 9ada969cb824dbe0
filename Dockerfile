# Targets: runtime (what all images share: Debian's packages and Python's), orchestrator (the checkout's own files on it).
#
# Docker's storage driver may walk the whole image for each step, also for one that only sets metadata. So metadata is set on a
# small image, there are few steps, tools come first and the checkout's files last.
ARG BASE=nixos-image-base
ARG START=plain

# Metadata of all images. run.sh gives a base image that it makes these lines at once (caller/base.sh): START is that image then.
FROM ${BASE} AS plain
LABEL org.nixos-image=true
ENV PATH=/opt/nix/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/opt/nixos-image:/opt/agents:/opt/orchestrator
ENV DEBIAN_FRONTEND=noninteractive DOCKER_BUILDKIT=0
WORKDIR /opt/nixos-image
ENTRYPOINT ["python3", "-m"]

FROM ${START} AS runtime
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST
# The caller's CA bundle, for https mirrors here and in all children; empty where the caller named none.
COPY ca-bundle.crt orchestrator/shared/packages locks/agents.txt locks/orchestrator.txt /usr/local/share/nixos-image/
# A base image that run.sh made has the packages already. Nix, run by an ordinary user, needs a /nix that belongs to that user; a
# new volume gets the owner that the folder has here. The lease's folder stays root's, which Podman needs.
# hadolint ignore=SC2046,DL3003
RUN cd /usr/local/share/nixos-image \
 && if [ -s ca-bundle.crt ]; then \
      echo 'Acquire::https::CAInfo "/usr/local/share/nixos-image/ca-bundle.crt";' > /etc/apt/apt.conf.d/90nixos-image-ca \
      && export PIP_CERT="$PWD/ca-bundle.crt" || exit 1; \
    fi \
 && { dpkg -s $(sed '/^#/d' packages) > /dev/null 2>&1 \
   || { apt-get update -q \
     && apt-get install -qy --no-install-recommends -o Dpkg::Options::=--path-exclude='/usr/share/AAVMF/*' \
          $(sed '/^#/d' packages) \
     && rm -rf /var/lib/apt/lists/*; }; } \
 && ln -s /usr/share/python-wheels/pip-*.whl /opt/pip.whl \
 && for lock in agents orchestrator; do \
      python3 /opt/pip.whl/pip install --disable-pip-version-check --no-cache-dir --quiet --no-deps --require-hashes \
        --root-user-action ignore --target "/opt/$lock" --requirement "$lock.txt" || exit 1; \
    done \
 && useradd --uid 1000 --create-home builder \
 && mkdir -p /nix/store /nix/var/nix/builds /var/nixos-image /run/nixos-image/lease \
 && chown -R builder /nix /var/nixos-image

FROM runtime AS orchestrator
COPY . .
# Compile Python modules once: otherwise each start of a container compiles them.
RUN python3 -m compileall -q orchestrator
