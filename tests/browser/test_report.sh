#!/bin/sh
# Tests the report in headless Chromium: widths, colours, keyboard, printing, hostile text. Without a Chromium on PATH, one is
# installed into a container of the runtime's image, which is removed afterwards.
set -eu
cd "$(dirname -- "$0")/../.."

for browser in chromium-headless-shell chromium google-chrome; do
  command -v "$browser" > /dev/null || continue
  python3 -c 'import sys, jinja2, pydantic; sys.exit(sys.version_info < (3, 13))' 2> /dev/null || break
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  python3 -m tests.browser.in_browser "$browser" "$folder"
  exit
done

# shellcheck disable=SC2016  # the container's shell
tar -cf - orchestrator nix tests locks flake.lock | docker run --rm --interactive --pull never --entrypoint sh nixos-image-runtime -euc '
  mkdir /tmp/checkout
  cd /tmp/checkout
  tar -xf -
  { apt-get update -q && apt-get install -qy --no-install-recommends chromium-headless-shell fonts-dejavu-core; } > /tmp/apt 2>&1 \
    || { cat /tmp/apt; exit 1; }
  PYTHONPATH=$PWD:$PYTHONPATH python3 -m tests.browser.in_browser chromium-headless-shell /tmp/pages'
