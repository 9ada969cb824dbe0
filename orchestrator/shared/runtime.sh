#!/bin/sh
# Makes a Debian the file system of all images: their Debian packages, Python packages, user and folders. The files that it needs
# lie beside it: caller/images.sh (runtime_files) names them. A file system that has been made before is renewed.
set -e
cd "$(dirname "$0")"

# The caller's CA bundle, for https mirrors here and in all children; empty where the caller named none.
rm -f /etc/apt/apt.conf.d/90nixos-image-ca
if [ -s ca-bundle.crt ]; then
  echo "Acquire::https::CAInfo \"$PWD/ca-bundle.crt\";" > /etc/apt/apt.conf.d/90nixos-image-ca
  export PIP_CERT="$PWD/ca-bundle.crt"
fi

cp dpkg.cfg /etc/dpkg/dpkg.cfg.d/nixos-image
packages=$(sed '/^#/d' packages)
# shellcheck disable=SC2086  # names
if ! dpkg -s $packages > /dev/null 2>&1; then
  apt-get update -q
  apt-get install -qy --no-install-recommends $packages
  rm -rf /var/lib/apt/lists/*
fi

ln -sf /usr/share/python-wheels/pip-*.whl /opt/pip.whl
jobs=
for lock in agents orchestrator; do
  rm -rf "/opt/$lock"
  python3 /opt/pip.whl/pip install --disable-pip-version-check --no-cache-dir --no-compile --quiet --no-deps --require-hashes \
    --root-user-action ignore --target "/opt/$lock" --requirement "$lock.txt" &
  jobs="$jobs $!"
done
for job in $jobs; do wait "$job"; done

# Each file costs time (see dpkg.cfg): of the Python packages only what is used is compiled, and of the time zones only their lists
# stay (orchestrator/blueprint/places.py). Python takes the bytecode whatever the time of its source: who packs a file system may
# change the times of new files, as mmdebstrap does, and Python would compile them at each start.
find /opt/orchestrator/tzdata/zoneinfo -mindepth 1 -type d -exec rm -rf {} +
find /opt/orchestrator/tzdata/zoneinfo -type f ! -name '*.*' -delete
compile_used() {
  folder=$1
  shift
  PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/$folder python3 -c '
import importlib, py_compile, sys
from importlib.machinery import SourceFileLoader

paths = set()
run = SourceFileLoader.exec_module
SourceFileLoader.exec_module = lambda loader, module: paths.add(loader.path) or run(loader, module)
for name in sys.argv[1:]:
    importlib.import_module(name)
for path in paths:  # also modules that cannot be imported, for want of an optional package: each start tries them
    if path.startswith("/opt/"):
        py_compile.compile(path, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
' "$@"
}
compile_used agents requests requests_aws4auth structlog tenacity
compile_used orchestrator docker.api docker.errors jinja2 pydantic.main pydantic.plugin._loader pydantic.type_adapter pydantic.types questionary requests rich.live \
  rich.progress_bar rich.table structlog tenacity

# Nix, run by an ordinary user, needs a /nix that belongs to that user; a new volume gets the owner that the folder has here. The
# lease's folder stays root's, which Podman needs. On the host a user of the same number could reach the builder's processes: so the
# number is one that nobody has (orchestrator/shared/constants.py says why).
number=61000
[ "$(id -u builder 2> /dev/null)" = $number ] || {
  ! id builder > /dev/null 2>&1 || userdel --remove builder
  useradd --key UID_MAX=$number --key GID_MAX=$number --uid $number --create-home builder
}
mkdir -p /nix/store /nix/var/nix/builds /var/nixos-image /run/nixos-image/lease
chown -R builder /nix /var/nixos-image
