# The orchestrator's image and what the others share with it. Targets: runtime (Python and what the agents need),
# orchestrator (docker CLI, compose v2, this package), test (the tools of the test suite).
ARG BASE=nixos-image-base

FROM ${BASE} AS python
LABEL org.nixos-image=true
ENV DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The host's CA bundle, for apt's https mirrors here and in all children; empty where the host named none.
COPY ca-bundle.crt /usr/local/share/nixos-image/
RUN [ ! -s /usr/local/share/nixos-image/ca-bundle.crt ] \
 || echo 'Acquire::https::CAInfo "/usr/local/share/nixos-image/ca-bundle.crt";' > /etc/apt/apt.conf.d/90nixos-image-ca
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends python3 ca-certificates \
 && rm -rf /var/lib/apt/lists/*

FROM python AS wheels
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/pip
COPY locks/agents.txt locks/orchestrator.txt /locks/
RUN [ ! -s /usr/local/share/nixos-image/ca-bundle.crt ] || export PIP_CERT=/usr/local/share/nixos-image/ca-bundle.crt; \
    for lock in agents orchestrator; do \
      /opt/pip/bin/pip install --disable-pip-version-check --no-cache-dir --quiet --no-deps --require-hashes \
        --target "/opt/$lock" --requirement "/locks/$lock.txt" || exit 1; \
    done

FROM python AS runtime
COPY --from=wheels /opt/agents /opt/agents
ENV PYTHONPATH=/opt/nixos-image:/opt/agents
WORKDIR /opt/nixos-image

FROM runtime AS orchestrator
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends docker-cli docker-compose \
 && rm -rf /var/lib/apt/lists/*
COPY --from=wheels /opt/orchestrator /opt/orchestrator
ENV PYTHONPATH=/opt/nixos-image:/opt/orchestrator DOCKER_BUILDKIT=0
COPY . /opt/nixos-image
# Modules are compiled once, here: each start of a container would do it again.
RUN python3 -m compileall -q orchestrator
ENTRYPOINT ["python3", "-m", "orchestrator"]

FROM orchestrator AS test
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends python3-venv shellcheck e2fsprogs libarchive13t64 dosfstools mtools fdisk nix-bin \
      grub-common qemu-utils zstd xz-utils pigz openssh-client \
 && rm -rf /var/lib/apt/lists/*
RUN [ ! -s /usr/local/share/nixos-image/ca-bundle.crt ] || export PIP_CERT=/usr/local/share/nixos-image/ca-bundle.crt; \
    python3 -m venv /opt/pip \
 && /opt/pip/bin/pip install --disable-pip-version-check --no-cache-dir --quiet --no-deps --require-hashes \
      --target /opt/test --requirement locks/test.txt
ENV NIXOS_IMAGE_IN_TEST_IMAGE=1 PYTHONPATH=/opt/nixos-image:/opt/orchestrator:/opt/test PATH=/opt/test/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["python3", "-m", "pytest"]
