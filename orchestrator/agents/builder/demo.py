"""Builds the demo system from pinned Debian packages of the target's architecture (nix/demo)."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import tempfile

from orchestrator.agents import debian, events
from orchestrator.agents.builder import sandbox, sbom
from orchestrator.agents.builder.forecast import Forecast
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.failure import AgentError
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES
from orchestrator.shared.artifact import Built, Material
from orchestrator.shared.demo_formats import FORMATS
from orchestrator.shared.paths import ROOT
from orchestrator.shared.run import Run
from orchestrator.shared.task import KEYS_FILE, USER_FILE, DemoTask
from orchestrator.shared.text import USER_NAME, is_line

LOCK = ROOT / "locks/debian.json"
EXPRESSION = ROOT / "nix/demo"

#: The only program of the builder's container that derivations of the demo use; it is static.
UNPACKER = sandbox.BUSYBOX


@dataclasses.dataclass(frozen=True)
class DemoInputs:
    """Inputs of nix/demo: packages with a URL each, and the demo's configuration."""

    system: str
    format: str
    root_fs: str
    sources: tuple[tuple[debian.Pin, str], ...]

    def to_json(self) -> str:
        """Return the JSON document that nix/demo/default.nix reads."""
        packages = {
            pin.role: {
                "url": url,
                "package": pin.package,
                "version": pin.version,
                "sha256": pin.sha256,
                "tree": pin.tree,
            }
            for pin, url in self.sources
        }
        document = {
            "system": self.system,
            "format": self.format,
            "partitionTable": FORMATS[self.format].partition_table,
            "diskFormat": FORMATS[self.format].disk_format,
            "rootFs": self.root_fs,
            "packages": packages,
        }
        return json.dumps(document, sort_keys=True)


def build(task: DemoTask, run: Run, nix: Nix, forecast: Forecast) -> list[Built]:
    """Tell the plan, and build the demo's image spec, and all store paths that it refers to.

    Packages are fetched from the pinned URLs first; after a network error, from wherever they are
    available. The user and the user's keys are late values.
    """
    files, inputs = account(task), pinned(task)
    try:
        specs = _build_once(run, nix, inputs, forecast)
    except AgentError as error:
        if error.kind != "network":
            raise
        events.emit("retry", level="warning", message=f"{error}: trying other servers")
        inputs = located(inputs, locked=task.locked)
        specs = _build_once(run, nix, inputs, forecast)
    return [Built(spec, task.system, task.format, materials(inputs), files) for spec in specs]


def account(task: DemoTask) -> dict[str, str]:
    """Return the late files that say who can log in to the demo; raises `AgentError`."""
    if not re.fullmatch(USER_NAME, task.user) or task.user == "root":
        raise AgentError(
            f"the demo cannot have a user {task.user!r}",
            hint="a user's name has small letters, digits, - and _; root is there anyway",
        )
    for key in task.authorized_keys:
        if not is_line(key):
            raise AgentError("a public key is not one line", hint="name the .pub file")
    keys = "".join(f"{key}\n" for key in task.authorized_keys)
    return {USER_FILE: f"{task.user}\n", KEYS_FILE: keys}


def materials(inputs: DemoInputs) -> tuple[Material, ...]:
    """Return the packages as materials of the provenance."""
    return tuple(
        Material(
            pin.package,
            pin.version,
            sbom.debian_purl(pin.package, pin.version, pin.arch, pin.suite.partition("-")[0]),
            {"sha256": pin.sha256},
        )
        for pin, _url in inputs.sources
    )


def _build_once(run: Run, nix: Nix, inputs: DemoInputs, forecast: Forecast) -> list[pathlib.Path]:
    inputs_file = run.folder / "inputs.json"
    inputs_file.write_text(inputs.to_json())
    arguments = ["--file", os.fspath(EXPRESSION), "--argstr", "inputs", os.fspath(inputs_file)]
    return forecast.build(nix, [*arguments, "imageSpec"], [(inputs.system, inputs.format)])


def pinned(task: DemoTask) -> DemoInputs:
    """Return the pinned inputs, each with its suite's mirror; without network requests."""
    system = task.system
    if system not in DEBIAN_ARCHITECTURES:
        raise AgentError(
            f"the demo does not support {system}",
            hint=f"the demo supports {', '.join(DEBIAN_ARCHITECTURES)}",
        )
    arch = DEBIAN_ARCHITECTURES[system]
    pins = debian.read_lock(LOCK, arch, sorted(debian.roles_of(arch)))
    sources = tuple((pin, debian.urls(pin, _snapshot())[0]) for pin in pins)
    return DemoInputs(system, task.format, task.root_fs, sources)


def located(inputs: DemoInputs, *, locked: bool) -> DemoInputs:
    """Find a working URL for each package, or its successor if the pinned version is gone.

    The search sends network requests.
    """
    pins = [pin for pin, _url in inputs.sources]
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(pins)) as pool:
        found = dict(zip(pins, pool.map(_first_available, pins), strict=True))
    lost = [pin for pin, url in found.items() if not url]
    if not lost:
        return dataclasses.replace(inputs, sources=tuple(found.items()))
    hosts = ", ".join(sorted(set(debian.repositories().values())))
    if len(lost) == len(pins):
        raise AgentError(
            f"no package can be reached at {hosts}", hint="check the network", kind="network"
        )
    if locked:
        names = ", ".join(f"{pin.package} {pin.version}" for pin in lost)
        raise AgentError(
            f"{hosts} no longer has {names}",
            hint="omit --locked, or renew the locks: ./run.sh pins --update",
            kind="network",
        )
    with tempfile.TemporaryDirectory() as state:
        arch = DEBIAN_ARCHITECTURES[inputs.system]
        index = debian.Index(pathlib.Path(state), arch, debian.left_out(LOCK, arch))
        for pin in lost:
            new = index.resolve(pin.role)
            debian.superseded(pin, new)
            del found[pin]
            found[new] = debian.urls(new, _snapshot())[0]
    return dataclasses.replace(
        inputs, sources=tuple(sorted(found.items(), key=lambda item: item[0].role))
    )


def _first_available(pin: debian.Pin) -> str:
    return next((url for url in debian.urls(pin, _snapshot()) if debian.available(url)), "")


def _snapshot() -> str:
    return str(json.loads(LOCK.read_text())["snapshot"])
