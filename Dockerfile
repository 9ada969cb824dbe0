# The orchestrator's image and what the others share with it. Targets: runtime (Python and what the agents need),
# orchestrator (docker CLI, compose v2, this package), test (the same and the tools of the test suite).
#
# Each step costs seconds where Docker's storage driver has to walk the whole image for it, the more the larger the image
# is: so what only says something comes first, and what is alike is one step.
ARG BASE=nixos-image-base

FROM ${BASE} AS python
LABEL org.nixos-image=true
ENV DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 DOCKER_BUILDKIT=0 \
    PYTHONPATH=/opt/nixos-image:/opt/agents:/opt/orchestrator:/opt/test
WORKDIR /opt/nixos-image
ENTRYPOINT ["python3", "-m"]
# The host's CA bundle, for apt's https mirrors here and in all children; empty where the host named none.
COPY ca-bundle.crt /usr/local/share/nixos-image/
RUN { [ ! -s /usr/local/share/nixos-image/ca-bundle.crt ] \
   || echo 'Acquire::https::CAInfo "/usr/local/share/nixos-image/ca-bundle.crt";' > /etc/apt/apt.conf.d/90nixos-image-ca; } \
 && apt-get update -q \
 && apt-get install -qy --no-install-recommends python3 ca-certificates \
 && rm -rf /var/lib/apt/lists/*

FROM python AS wheels
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST
COPY locks/agents.txt locks/orchestrator.txt /locks/
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/pip \
 && { [ ! -s /usr/local/share/nixos-image/ca-bundle.crt ] || export PIP_CERT=/usr/local/share/nixos-image/ca-bundle.crt; } \
 && for lock in agents orchestrator; do \
      /opt/pip/bin/pip install --disable-pip-version-check --no-cache-dir --quiet --no-deps --require-hashes \
        --target "/opt/$lock" --requirement "/locks/$lock.txt" || exit 1; \
    done

FROM python AS runtime
COPY --from=wheels /opt/agents /opt/agents

FROM runtime AS client
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends docker-cli docker-compose openssh-client \
 && rm -rf /var/lib/apt/lists/*
COPY --from=wheels /opt/orchestrator /opt/orchestrator

FROM client AS orchestrator
COPY . .
# Modules are compiled once, here: each start of a container would do it again.
RUN python3 -m compileall -q orchestrator

FROM wheels AS test-wheels
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST
COPY locks/test.txt /locks/
RUN { [ ! -s /usr/local/share/nixos-image/ca-bundle.crt ] || export PIP_CERT=/usr/local/share/nixos-image/ca-bundle.crt; } \
 && /opt/pip/bin/pip install --disable-pip-version-check --no-cache-dir --quiet --no-deps --require-hashes \
      --target /opt/test --requirement /locks/test.txt

# What the suite needs lies below what is edited: an edit of a module or a test copies files, and installs nothing.
FROM client AS tools
ENV NIXOS_IMAGE_IN_TEST_IMAGE=1 PATH=/opt/test/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends shellcheck e2fsprogs libarchive13t64 dosfstools mtools fdisk nix-bin \
      grub-common qemu-utils zstd xz-utils pigz gcc libc6-dev busybox git libarchive-tools \
 && rm -rf /var/lib/apt/lists/*
COPY --from=test-wheels /opt/test /opt/test

# The builder's image is there before this one is made.
FROM nixos-image-builder AS builder

FROM tools AS test
# What the image tools are started with.
COPY --from=builder /opt/nixos-image/*.so /opt/nixos-image/pack ./
COPY --from=orchestrator /opt/nixos-image/orchestrator orchestrator
COPY . .
