"""Renews locks for `pins --update`, each with its own tool, in containers with a network.

The orchestrator has no network. A lock that cannot be renewed is reported and left unchanged.
"""

import dataclasses
import datetime
import difflib
import json
import pathlib
import re
import typing
from collections.abc import Callable

from orchestrator.ask.request import Caller
from orchestrator.docker.answers import read_text
from orchestrator.docker.engine import Engine
from orchestrator.shared.architectures import MACHINES
from orchestrator.shared.errors import STOPPED, ApplianceError, NetworkError
from orchestrator.shared.paths import CA_BUNDLE, ROOT
from orchestrator.shared.progress import Progress

#: Wheels that Debian 13 can install: manylinux tags up to its glibc 2.41 (PEP 600), and older names
#: of such tags.
GLIBC_MINOR = 41
OLDER_NAMES = ("manylinux1", "manylinux2010", "manylinux2014")
PYTHON = "3.13"

#: The CPUs of hosts, as pip's platforms name them.
HOSTS = tuple(system.removesuffix("-linux") for system in dict.fromkeys(MACHINES.values()))


class Hashes(typing.TypedDict):
    """An archive's hashes."""

    sha256: str


class Archive(typing.TypedDict):
    """An archive."""

    hashes: Hashes


class Download(typing.TypedDict):
    """What pip would download."""

    archive_info: Archive


class Metadata(typing.TypedDict):
    """A package."""

    name: str
    version: str


class Install(typing.TypedDict):
    """What pip would install."""

    metadata: Metadata
    download_info: Download


class PipReport(typing.TypedDict):
    """pip's report."""

    install: list[Install]


class Prefetched(typing.TypedDict):
    """What `nix flake prefetch` prints."""

    hash: str
    locked: dict[str, typing.Any]


@dataclasses.dataclass(frozen=True)
class Renewal:
    """One lock: `make` takes its text and returns the renewed text."""

    file: str
    make: Callable[[Engine, Caller, str], str]


def renew(engine: Engine, who: Caller, progress: Progress) -> dict[str, str]:
    """Renew all locks; print and return changed ones (new text by file).

    Raises `NetworkError` if no lock could be renewed.
    """
    changed, failed = {}, 0
    for one in RENEWALS:
        progress.to("pins", one.file)
        old = (ROOT / one.file).read_text()
        try:
            new = one.make(engine, who, old)
        except STOPPED:
            raise
        except ApplianceError as error:
            failed += 1
            progress.say(f"{one.file} is left unchanged: {error}", level="warning")
            continue
        if new == old:
            progress.say(f"{one.file}: up to date")
        else:
            changed[one.file] = new
    progress.end()
    if failed == len(RENEWALS):
        raise NetworkError("no lock could be renewed", hint="the warnings above name the causes")
    for file, new in changed.items():
        progress.say(difference(file, (ROOT / file).read_text(), new))
    return changed


def difference(file: str, old: str, new: str) -> str:
    """Return a unified diff for patch(1)."""
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), f"a/{file}", f"b/{file}", lineterm="", n=1
    )
    return "\n".join(lines)


def _base(engine: Engine, _who: Caller, text: str) -> str:
    """Renew the base image's digest from its tag."""
    name = text.strip().partition("@")[0]
    return f"{name}@{engine.pull_digest(name)}\n"


def _debian(engine: Engine, _who: Caller, text: str) -> str:
    old = json.loads(text)
    now = datetime.datetime.now(datetime.UTC)
    command = ["orchestrator.agents.debian_lock", "lock", f"{now:%Y%m%dT%H%M%SZ}"]
    for arch, suites in old["without"].items():
        command += [part for suite in suites for part in ("--without", f"{arch}/{suite}")]
    new = engine.run_service("builder", command)
    # A different snapshot time alone is not a change.
    document = read_text(dict[str, typing.Any], new, "locks/debian.json")
    return text if document | {"snapshot": old["snapshot"]} == old else new


def _python(name: str) -> Callable[[Engine, Caller, str], str]:
    def make(engine: Engine, who: Caller, _text: str) -> str:
        requirements = (ROOT / f"locks/{name}.in").read_text().split()
        cert = ["--cert", CA_BUNDLE] if who.ca_bundle else []
        reports: list[PipReport] = []
        for machine in HOSTS:
            command = [*_pip(machine), *cert, *requirements]
            said = engine.run_service("pins", command)
            reports.append(read_text(PipReport, said, f"pip about {name}"))
        return python_lock(reports)

    return make


def _pip(machine: str) -> list[str]:
    """Return pip's arguments for a JSON report of what it would install on `machine`."""
    tags = [f"manylinux_2_{minor}" for minor in range(GLIBC_MINOR, 4, -1)]
    platforms = [f"--platform={tag}_{machine}" for tag in (*tags, *OLDER_NAMES)]
    abis = [f"--abi={abi}" for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none")]
    return [
        *("install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"),
        *("--dry-run", "--report=-", "--ignore-installed", "--target=/tmp/none"),
        *("--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"),
        *abis,
        *platforms,
    ]


def python_lock(reports: list[PipReport]) -> str:
    """Make a requirements file with hashes from pip's reports, one per machine."""
    versions: dict[str, str] = {}
    hashes: dict[str, set[str]] = {}
    for report in reports:
        for one in report["install"]:
            name = re.sub(r"[-_.]+", "-", one["metadata"]["name"]).lower()
            version = one["metadata"]["version"]
            if versions.setdefault(name, version) != version:
                raise NetworkError(
                    f"{name} has version {versions[name]} for one CPU, {version} for another"
                )
            archive = one["download_info"]["archive_info"]
            hashes.setdefault(name, set()).add(archive["hashes"]["sha256"])
    lines = []
    for name in sorted(versions):
        found = [f"    --hash=sha256:{digest}" for digest in sorted(hashes[name])]
        lines.append(" \\\n".join([f"{name}=={versions[name]}", *found]))
    return "".join(f"{line}\n" for line in lines)


def _flake(engine: Engine, who: Caller, text: str) -> str:
    """Renew each flake input by its original reference, like `nix flake update`."""
    document = json.loads(text)
    for node in document["nodes"].values():
        if "original" in node:
            original = node["original"]
            reference = f"{original['type']}:{original['owner']}/{original['repo']}"
            # The reference is complete: disable the flake registry, which would need the network.
            command = ["--extra-experimental-features", "nix-command flakes"]
            command += ["--option", "flake-registry", "", "flake", "prefetch"]
            command += ["--json", f"{reference}/{original['ref']}"]
            variables = {"NIX_SSL_CERT_FILE": CA_BUNDLE} if who.ca_bundle else {}
            said = engine.run_service("builder", command, program="nix", variables=variables)
            found = read_text(Prefetched, said, f"nix about {reference}")
            node["locked"] = dict(sorted((found["locked"] | {"narHash": found["hash"]}).items()))
    return json.dumps(document, indent=2) + "\n"


RENEWALS = (
    Renewal("locks/base", _base),
    Renewal("locks/debian.json", _debian),
    Renewal("locks/agents.txt", _python("agents")),
    Renewal("locks/orchestrator.txt", _python("orchestrator")),
    Renewal("locks/test.txt", _python("test")),
    Renewal("locks/docs.txt", _python("docs")),
    Renewal("locks/moto.txt", _python("moto")),
    Renewal("flake.lock", _flake),
)


def write(folder: pathlib.Path, texts: dict[str, str]) -> list[str]:
    """Write the locks to `folder`; returns their file names, which run.sh maps to paths."""
    names = []
    for file, text in texts.items():
        name = pathlib.PurePosixPath(file).name
        (folder / name).write_text(text)
        names.append(name)
    return names
