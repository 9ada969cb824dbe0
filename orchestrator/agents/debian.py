"""Fetches Debian packages, pinned by hash, from the mirror that apt is configured for.

A pin has package, version, suite, pool path and SHA-256 (``locks/debian.json``). apt is asked for
the pool's address at run time, so a company's mirror works and no file names a host. A version that
has left the pool is fetched from the snapshot archive that apt knows. If it is not there, the
newest version in apt's signed index is used, with a warning that names both versions; ``locked``
forbids that.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Collection

from orchestrator.agents import events, network
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command as programs
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES, MACHINES, SYSTEMS
from orchestrator.shared.constants import NIX_PACKAGE
from orchestrator.shared.json_reader import from_json

#: Debian package of each role in ``locks/debian.json``; {kernel} comes from architectures.toml.
ROLES = {
    "busybox": "busybox-static",
    "dropbear": "dropbear-bin",
    "e2fsprogs": "e2fsprogs",
    "fdisk": "fdisk",
    "grub": "grub-pc-bin",
    "kernel": "linux-image-{kernel}",
    "libblkid": "libblkid1",
    "libc": "libc6",
    "libcom-err": "libcom-err2",
    "libcrypt": "libcrypt1",
    "libext2fs": "libext2fs2t64",
    "libfdisk": "libfdisk1",
    "libgmp": "libgmp10",
    "libreadline": "libreadline8t64",
    "libsmartcols": "libsmartcols1",
    "libtinfo": "libtinfo6",
    "libtomcrypt": "libtomcrypt1",
    "libtommath": "libtommath1",
    "libuuid": "libuuid1",
    "systemd-boot": "systemd-boot-efi",
    "zlib": "zlib1g",
}

#: Boot loader that a role is for; architectures without it do not have the role.
LOADERS = {"grub": "grub", "systemd-boot": "systemdBoot"}

#: Rows of architectures.toml that have a demo, by Debian's name of the architecture.
DEMOS = {row.demo.debian: (row, row.demo) for row in SYSTEMS.values() if row.demo}

#: Debian architectures of hosts, which emulators are pinned for.
HOSTS = tuple(dict.fromkeys(DEBIAN_ARCHITECTURES[host] for host in MACHINES.values()))

#: Role of the emulators' pins, which are in the lock's section `emulators`.
EMULATOR = "qemu-user"

#: Debian suite of Nix and its libraries: the base suite's Nix (2.26) has known vulnerabilities that
#: Debian does not fix there.
NIX_SUITE = "forky"

#: Suffix of suites that are in the separate security repository.
SECURITY = "-security"

APT_HELPER = "/usr/lib/apt/apt-helper"
PROBE_SECONDS = 20


@dataclasses.dataclass(frozen=True)
class Pin:
    """Pin of a Debian package: one version of it, which its hash identifies.

    `path` is relative to the repository, `sha256` is hex. `tree` is the SRI hash of the unpacked
    package (`dpkg-deb -x`), for packages that become a Nix store path.
    """

    role: str
    package: str
    version: str
    suite: str
    path: str
    sha256: str
    tree: str | None = None

    @property
    def arch(self) -> str:
        """Debian architecture of the file, or `all`."""
        return self.path.removesuffix(".deb").rpartition("_")[2]


def roles_of(arch: str) -> list[str]:
    """Return the roles of all packages that the demo for Debian architecture `arch` uses."""
    loaders = DEMOS[arch][0].loaders
    return [role for role in ROLES if role not in LOADERS or LOADERS[role] in loaders]


def read_lock(lock: pathlib.Path, arch: str, roles: list[str]) -> list[Pin]:
    """Read the pins of `roles` for Debian architecture `arch`.

    Raises `AgentError` if the lock has no pin for a role.
    """
    packages = json.loads(lock.read_text())["packages"]
    missing = [role for role in roles if arch not in packages.get(role, {})]
    if missing:
        hint = "renew the lock: ./run.sh pins --update"
        raise AgentError(f"{lock.name} has no pin of {', '.join(missing)} for {arch}", hint=hint)
    return [_pin(role, packages[role][arch]) for role in roles]


def read_emulator(lock: pathlib.Path, arch: str, rung: str) -> Pin:
    """Read the pin of `rung` for hosts of Debian architecture `arch`."""
    return _pin(EMULATOR, json.loads(lock.read_text())["emulators"][rung][arch])


def read_nix(lock: pathlib.Path, arch: str) -> list[Pin]:
    """Read the pins of Nix and its libraries for hosts of Debian architecture `arch`."""
    packages = json.loads(lock.read_text())["nix"]
    return [_pin(role, archs[arch]) for role, archs in packages.items() if arch in archs]


def _pin(role: str, fields: dict[str, str]) -> Pin:
    return from_json(Pin, {"role": role, **fields}, f"pin of {role}")


def left_out(lock: pathlib.Path, arch: str) -> frozenset[str]:
    """Return the Debian suites that are not read for `arch`: their index is broken."""
    return frozenset(json.loads(lock.read_text())["without"].get(arch, []))


@functools.cache
def repositories() -> dict[str, str]:
    """Return the repository address of each suite in apt's sources."""
    lines = _apt(["update", "--print-uris"]).splitlines()
    found = (re.match(r"'(.+)/dists/([^/]+)/(?:In)?Release'", line) for line in lines)
    return {match[2]: match[1] for match in found if match}


def urls(pin: Pin, snapshot: str) -> list[str]:
    """Return the addresses of the pinned file, in the order in which they are tried.

    The addresses are on the mirror of the pin's suite, on other mirrors, in the snapshot archive.
    """
    known = repositories()
    mirrors = [known[pin.suite]] if pin.suite in known else []
    mirrors += [uri for uri in known.values() if uri not in mirrors]
    origin = "Label::Debian-Security" if pin.suite.endswith(SECURITY) else "Origin::Debian"
    dump = programs.run(["apt-config", "dump"], fails=AgentError).text
    archives = re.findall(rf'Acquire::Snapshots::URI::(?:Override::)?{origin} "(\S+?)/?";', dump)
    bases = [*mirrors, *(archive.replace("@SNAPSHOTID@", snapshot) for archive in archives)]
    return [f"{base}/{urllib.parse.quote(pin.path)}" for base in dict.fromkeys(bases)]


def available(url: str) -> bool:
    """Whether `url` answers a HEAD request with success."""
    return not network.problem(url, PROBE_SECONDS, found=True)


def reach_mirrors() -> None:
    """Connect to one of apt's mirrors; raises `AgentError` if none can be connected to.

    Without a network apt looks for each name several times for each package.
    Where a proxy is set, it is the proxy that reaches mirrors: nothing is tried.
    """
    settings = programs.run(["apt-config", "dump"], fails=AgentError).text
    if urllib.request.getproxies() or re.search(r"(?im)^Acquire::\w+::Proxy\b", settings):
        return
    reasons: list[str] = []
    for base in dict.fromkeys(repositories().values()):
        if not (reason := network.no_connection(base, PROBE_SECONDS)):
            return
        reasons.append(reason)
    if reasons:
        raise AgentError(
            f"no package mirror can be reached: {'; '.join(dict.fromkeys(reasons))}",
            hint="check the network, its DNS and HTTP_PROXY; without a network, ./run.sh kit import"
            " loads images that were made elsewhere",
        )


def fetch(pin: Pin, snapshot: str, target: pathlib.Path) -> bool:
    """Download `pin` to `target` with apt-helper, which checks the hash.

    Returns False if no address has the file; raises `AgentError` if no mirror can be reached.
    """
    reach_mirrors()
    return _download(pin, snapshot, target)


def _download(pin: Pin, snapshot: str, target: pathlib.Path) -> bool:
    """Try each address of `pin`; returns whether one has it."""
    for url in urls(pin, snapshot):
        command = [APT_HELPER, "download-file", url, os.fspath(target), f"SHA256:{pin.sha256}"]
        if programs.run(command, check=False, fails=AgentError).code == 0:
            return True
        target.unlink(missing_ok=True)
    return False


def fetch_all(pins: Collection[Pin], snapshot: str, folder: pathlib.Path) -> Pin | None:
    """Download all `pins` to `folder`, as PACKAGE.deb; returns the first that is not available.

    Raises `AgentError` if no mirror can be reached.
    """
    reach_mirrors()
    targets = {pin: folder / f"{pin.package}.deb" for pin in pins}
    command: list[str] = [APT_HELPER, "download-file"]
    for pin, target in targets.items():
        command += [urls(pin, snapshot)[0], os.fspath(target), f"SHA256:{pin.sha256}"]
    if programs.run(command, check=False, fails=AgentError).code == 0:
        return None
    # At least one download failed: start anew, with each file by itself and all its addresses.
    for target in targets.values():
        target.unlink(missing_ok=True)
    return next(
        (pin for pin, target in targets.items() if not _download(pin, snapshot, target)), None
    )


class Index:
    """apt's signed package index, updated in a private folder.

    The update needs no privileges.
    """

    def __init__(
        self, state: pathlib.Path, arch: str, without: Collection[str], suite: str = ""
    ) -> None:
        """Update the index for `arch` under the existing folder `state`.

        Suites in `without` are not read. With `suite`, only that suite and its security updates are
        read, even if apt is not configured for them. apt checks all indexes with its own keys.
        """
        for name in ("lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True, exist_ok=True)
        self._arch = arch
        self._suites = _of_release(suite) if suite else repositories()
        self._options = [
            *("-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache"),
            *("-o", "Dir::State::status=/dev/null", "-o", f"APT::Architecture={arch}"),
            *("-o", f"APT::Architectures={arch}", "-o", "Acquire::Languages=none"),
        ]
        if without or suite:
            sources = state / "sources.list"
            lines = [
                f"deb {base} {name} main\n"
                for name, base in self._suites.items()
                if name not in without
            ]
            sources.write_text("".join(lines))
            self._options += ["-o", f"Dir::Etc::sourcelist={sources}"]
            self._options += ["-o", "Dir::Etc::sourceparts=/dev/null"]
        _apt([*self._options, "update"])

    def resolve(self, role: str) -> Pin:
        """Return a pin of the newest version of the package of `role`, without `tree`."""
        if role == "kernel":
            return self.kernel(DEMOS[self._arch][1].kernel)
        return self.newest(role, ROLES[role])

    def kernel(self, flavour: str) -> Pin:
        """Return a pin of the newest kernel of Debian's `flavour`, without `tree`."""
        # The metapackage depends on the kernel package of the current ABI.
        depends = self._show(ROLES["kernel"].format(kernel=flavour))["Depends"]
        names = re.findall(r"[^\s,]+", depends)
        return self.newest("kernel", next(n for n in names if n.startswith("linux-image-")))

    def newest(self, role: str, package: str) -> Pin:
        """Return a pin of the newest version of `package`, with role `role`."""
        shown = self._show(package)
        uri = _apt(
            [*self._options, "download", "--print-uris", f"{package}={shown['Version']}"]
        ).split("'")[1]
        return self._pin(role, uri, shown)

    def closure(self, packages: list[str]) -> list[Pin]:
        """Return pins of `packages` and all their dependencies, with the package name as role.

        apt resolves them as one installable set.
        """
        command = ["install", "--print-uris", "--yes", "--no-install-recommends", *packages]
        found = re.findall(
            r"^'(.+)' ([^_ ]+)_([^_ ]+)_[^_ ]+\.deb ",
            _apt([*self._options, *command]),
            re.MULTILINE,
        )
        exact = [f"{name}={urllib.parse.unquote(version)}" for _, name, version in found]
        shown = {one["Package"]: one for one in self._show_all(exact)}
        return [self._pin(name, uri, shown[name]) for uri, name, _ in found]

    def linked(self, package: str) -> list[Pin]:
        """Return `package` and the libraries that it is linked with, down to the C library.

        The role of each is its package name. Perl modules, with similar package names, and programs
        are left out.
        """
        named = re.findall(r"(?:^|, )(lib[^\s,|]+)", self._show(package)["Depends"])
        libraries = [name for name in named if not name.endswith("-perl")]
        return [self.newest(package, package), *self.closure(libraries)]

    def _pin(self, role: str, uri: str, shown: dict[str, str]) -> Pin:
        # Several suites may share a repository: name the first one.
        suite, base = next((s, b) for s, b in self._suites.items() if uri.startswith(f"{b}/"))
        path = urllib.parse.unquote(uri[len(base) + 1 :])
        return Pin(role, shown["Package"], shown["Version"], suite, path, shown["SHA256"])

    def _show(self, package: str) -> dict[str, str]:
        return self._show_all([package])[0]

    def _show_all(self, packages: list[str]) -> list[dict[str, str]]:
        command = ["apt-cache", *self._options, "show", "--no-all-versions", *packages]
        done = programs.run(command, check=False, fails=AgentError)
        if done.code != 0:
            raise AgentError(
                f"Debian's index has no package {', '.join(packages)}",
                hint="check the apt sources of the base image",
            )
        shown = []
        for text in done.text.strip().split("\n\n"):
            fields: list[tuple[str, str]] = re.findall(
                r"^([A-Za-z0-9-]+): (.*)$", text, re.MULTILINE
            )
            shown.append(dict(fields))
        return shown


def _of_release(suite: str) -> dict[str, str]:
    """Return repositories of `suite` and of its security updates, on the base image's mirrors."""
    known = repositories()
    found = {}
    for name in [suite] if "-" in suite else [suite, f"{suite}{SECURITY}"]:
        alike = [
            base
            for other, base in known.items()
            if other.endswith(SECURITY) == name.endswith(SECURITY)
        ]
        if alike:
            found[name] = known.get(name, alike[0])
    return found


def superseded(old: Pin, new: Pin) -> None:
    """Warn that the archive no longer has the pinned version; name both versions."""
    events.emit(
        "pin-superseded",
        level="warning",
        message=f"{old.package} {old.version} is no longer in the archive:"
        f" using {new.package} {new.version}",
    )


def resolve_nix(arch: str, without: Collection[str]) -> list[Pin]:
    """Return pins of Nix and its libraries as the archive has them now."""
    with tempfile.TemporaryDirectory() as state:
        return Index(pathlib.Path(state), arch, without, NIX_SUITE).linked(NIX_PACKAGE)


def _apt(arguments: list[str]) -> str:
    bundle = os.environ.get("SSL_CERT_FILE")
    options = ["-o", f"Acquire::https::CAInfo={bundle}"] if bundle else []
    done = programs.run(["apt-get", *options, *arguments], check=False, fails=AgentError)
    if done.code != 0:
        reason = " ".join(line for line in done.lines if line.startswith("E:"))
        raise AgentError(
            f"apt-get {arguments[-1]} failed: {reason}", hint="is the package mirror reachable?"
        )
    return done.text
