"""Builds NixOS images: finds nixpkgs and substituters, and runs one Nix command for all images."""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import typing
import urllib.parse

from orchestrator.agents import events, network
from orchestrator.agents.builder.early import check_image
from orchestrator.agents.builder.flakes import (
    CHANNELS,
    Flake,
    date,
    fetchable,
    lock_flake,
    store_path,
)
from orchestrator.agents.builder.forecast import Forecast
from orchestrator.agents.builder.nix import Nix, answer, attribute_paths
from orchestrator.agents.builder.nix_settings import CACHE, CACHE_KEY, Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.architectures import this_system
from orchestrator.shared.artifact import Built, Material
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.paths import ROOT
from orchestrator.shared.run import Run
from orchestrator.shared.task import NixosTask
from orchestrator.shared.text import public

EXPRESSION = ROOT / "nix/build.nix"
FLAKE_LOCK = ROOT / "flake.lock"

#: Folders of our expressions and of what these read, by their names on the search path.
READ = {"expression": "nix", "tables": "orchestrator/shared", "locks": "locks"}

#: Prefixes of values that Nix' search path accepts unchanged; other values are flake references.
PLACES = ("/", "channel:", "https:", "http:", "flake:")

#: URL of the server that each scheme of short flake references stands for.
FORGES = {
    "github": "https://github.com",
    "gitlab": "https://gitlab.com",
    "sourcehut": "https://git.sr.ht",
}

#: Time limit in seconds of a request that tests whether a server answers.
ANSWER_SECONDS = 5

#: Beginning of a store path.
STORE = "/nix/store/"

WAY_OUT = "--nixpkgs PATH, --substituter URL; ./run.sh demo needs neither"


@dataclasses.dataclass(frozen=True)
class Nixpkgs:
    """A nixpkgs tree, with the revision and version suffix that the tree itself does not have.

    `source` is the URL that it was fetched from, or empty.
    """

    path: str | None
    revision: str | None = None
    suffix: str | None = None
    source: str = ""
    nar_hash: str = ""

    @property
    def materials(self) -> tuple[Material, ...]:
        """Material for the provenance, empty if nothing was fetched."""
        if not self.source:
            return ()
        digest = {"gitCommit": self.revision or "", "narHash": self.nar_hash}
        known = {name: value for name, value in digest.items() if value}
        return (Material("nixpkgs", self.revision or "", public(self.source), known),)


def prepare(task: NixosTask, nix: Nix, options: ImageOptions) -> Nix:
    """Return `nix` with reachable substituters, and with the paths for its error messages.

    It checks each image's spec together with `options`.
    """
    return dataclasses.replace(
        nix,
        settings=look_around(task, nix.settings),
        sources=task.sources,
        nixpkgs=task.nixpkgs,
        show_trace=task.nix_options.show_trace,
        check=functools.partial(check_image, options),
    )


def build(task: NixosTask, run: Run, nix: Nix, forecast: Forecast) -> list[Built]:
    """Tell the plan, and build image specs and files; a dry run ends with the plan."""
    nixpkgs = find_nixpkgs(task, nix)
    inputs = run.folder / "inputs.json"
    flake = lock_flake(task, nix, readable(task, inputs))
    nix = dataclasses.replace(nix, copy=flake.copy)
    inputs.write_text(json.dumps(inputs_of(task, nixpkgs, flake, offered(task, nix))))
    wanted = task.images
    arguments = ["--file", os.fspath(EXPRESSION), "--arg", "inputs", os.fspath(inputs)]
    arguments += [*readable(task, inputs), *flake.readable, *nix_arguments(task, nixpkgs)]
    arguments += attribute_paths(wanted)
    events.emit("evaluating", message="evaluating the configuration")
    kinds = [(system, name) for *_machine, system, name in wanted]
    outputs = forecast.build(nix, arguments, kinds)
    read = (*([nixpkgs.path] if nixpkgs.path else ()), *flake.places)
    events.emit("trees", message=None, paths=[one for one in read if one.startswith(STORE)])
    materials = (*nixpkgs.materials, *flake.materials)
    found = zip(outputs, kinds, strict=not task.dry_run)
    return [Built(path, system, name, materials=materials) for path, (system, name) in found]


def offered(task: NixosTask, nix: Nix) -> tuple[str, ...]:
    """Return the features that derivations may require: here, and of builders elsewhere."""
    asked = [
        feature
        for name, value in task.nix_options.options
        if name in ("system-features", "extra-system-features")
        for feature in value.split()
    ]
    theirs = [one for builder in nix.crew.alive for one in builder.features + builder.mandatory]
    return (*nix.settings.features, *asked, *theirs)


def inputs_of(
    task: NixosTask, nixpkgs: Nixpkgs, flake: Flake, features: tuple[str, ...] | None = None
) -> dict[str, object]:
    """Return the JSON document that nix/build.nix reads; `features` are those of `offered`."""
    given: dict[str, object] = {
        "nixpkgs": nixpkgs.path,
        "formats": task.formats,
        "systems": task.systems,
        "systemsGiven": task.systems_given,
        "formatPaths": task.format_paths,
        "disk": task.disk,
        "late": task.late,
        "specialArgs": dict(task.nix_options.arguments),
        "revision": nixpkgs.revision,
        "versionSuffix": nixpkgs.suffix,
        "features": features,
        "buildSystem": this_system(),
    }
    if task.flake:
        named = {"attribute": task.attribute, "hostName": task.computer}
        return given | named | {"flake": flake.document, "flakeGiven": task.flake}
    if task.machines:
        machines = {
            one.name: {
                "configuration": one.configuration,
                "formats": one.formats,
                "systems": one.systems,
                "systemsGiven": one.systems_given,
            }
            for one in task.machines
        }
        return given | {"machines": machines}
    return given | {"configuration": task.configuration, "name": task.name}


def readable(task: NixosTask, inputs: pathlib.Path) -> list[str]:
    """Return -I options for paths that a restricted evaluation may read, besides nixpkgs."""
    own = {name: ROOT / path for name, path in READ.items()}
    places = {**own, "inputs": inputs, "sources": task.sources}
    return [
        part for name, place in places.items() for part in ("-I", f"nixos-image-{name}={place}")
    ]


def nix_arguments(task: NixosTask, nixpkgs: Nixpkgs) -> list[str]:
    """Return the task's arguments for Nix' command line: search path, and `build_options`."""
    arguments = ["-I", f"nixpkgs={nixpkgs.path}"] if nixpkgs.path else []
    # system.copySystemConfiguration copies this file; of several machines none is the one.
    if task.configuration and not (task.flake or task.machines):
        arguments += ["-I", f"nixos-config={task.configuration}"]
    for name, place in task.search_path:
        place = place if place.startswith(PLACES) else f"flake:{place}"
        arguments += ["-I", f"{name}={place}" if name else place]
    return arguments


def build_options(task: NixosTask) -> tuple[str, ...]:
    """Return the task's Nix options that affect how Nix builds."""
    arguments: list[str] = []
    for name, value in task.nix_options.options:
        arguments += ["--option", name, value]
    cores = task.nix_options.cores
    return (*arguments, *([] if cores is None else ["--cores", str(cores)]))


# --- the network ----------------------------------------------------------------------------------


def look_around(task: NixosTask, settings: Settings) -> Settings:
    """Test substituters and sources; return `settings` with the reachable substituters.

    Raises `AgentError` within seconds if a source is not reachable.
    """
    caches = (CACHE, *task.nix_options.substituters)
    replaced = (reference for _name, reference in task.overrides)
    named = (_needed_nixpkgs(task), task.flake, *replaced)
    sources = [reference for reference in named if host_of(reference)]
    problems = _problems(caches, sources)
    states = {public(name): problem or "reachable" for name, problem in problems.items()}
    found = [f"{name}: {state}" for name, state in states.items()]
    events.emit("network", message="; ".join(found), found=states)
    if lost := [source for source in sources if problems[source]]:
        raise AgentError(
            f"{public(lost[0])} cannot be reached: {problems[lost[0]]}",
            hint=WAY_OUT,
            kind="network",
        )
    return dataclasses.replace(
        settings,
        substituters=_reached(caches, problems),
        trusted_keys=(CACHE_KEY, *task.nix_options.trusted_keys),
        restricted=True,
    )


def reachable(caches: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the binary `caches` that answer; warn of the others."""
    return _reached(caches, _problems(caches, []))


def _problems(caches: tuple[str, ...], sources: list[str]) -> dict[str, str]:
    """Ask all at once; return what is wrong with each, "" if nothing is."""
    asked = {
        cache: f"{public(cache).rstrip('/')}/nix-cache-info" for cache in caches if _is_web(cache)
    }
    asked |= {source: host_of(source) for source in sources}
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(asked) or 1) as pool:
        return dict(zip(asked, pool.map(answers, asked.values()), strict=True))


def _reached(caches: tuple[str, ...], problems: dict[str, str]) -> tuple[str, ...]:
    for cache in caches:
        if problems.get(cache):
            events.emit(
                "cache-lost",
                level="warning",
                message=f"{public(cache)} cannot be reached ({problems[cache]}):"
                " its packages are built from source",
            )
    return tuple(cache for cache in caches if not problems.get(cache))


def _needed_nixpkgs(task: NixosTask) -> str:
    """Return the nixpkgs reference that must be fetched, or ""."""
    if task.flake or task.nixpkgs.startswith("/"):
        return ""
    if task.nixpkgs:
        return task.nixpkgs
    locked = _pinned()
    return "" if pathlib.Path(store_path(locked["narHash"])).exists() else _pinned_url(locked)


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def host_of(reference: str) -> str:
    """Return a URL that tests whether the server of `reference` is reachable, or ""."""
    scheme, _, rest = reference.partition(":")
    if scheme == "channel":
        return CHANNELS
    if scheme in FORGES:
        return FORGES[scheme]
    scheme = scheme.rpartition("+")[2]
    if scheme in {"http", "https"}:
        place = urllib.parse.urlsplit(public(f"{scheme}:{rest}"))
        return f"{scheme}://{place.netloc}"
    return ""


def answers(url: str) -> str:
    """Request `url`; return "" if the server answers with any status, else why not."""
    return network.problem(url, ANSWER_SECONDS, found=False)


# --- nixpkgs --------------------------------------------------------------------------------------


def find_nixpkgs(task: NixosTask, nix: Nix) -> Nixpkgs:
    """Return the nixpkgs tree, which is fetched if needed."""
    if task.flake:
        return Nixpkgs(None)  # no path: the flake has its own nixpkgs
    if task.nixpkgs.startswith("/"):
        if not pathlib.Path(task.nixpkgs, "nixos/lib/eval-config.nix").exists():
            place = task.nixpkgs.removeprefix(task.sources)
            raise AgentError(
                f"--nixpkgs {place}: this folder is not a nixpkgs tree",
                hint="name a folder that contains nixos/lib/eval-config.nix",
                kind="usage",
            )
        return Nixpkgs(task.nixpkgs)
    if task.nixpkgs:
        return _fetched(nix, task.nixpkgs)
    locked = _pinned()
    # Fetched by hash: a tree in the store needs no network.
    fetch = (
        'builtins.fetchTarball { name = "source";'
        f' url = "{_pinned_url(locked)}"; sha256 = "{locked["narHash"]}"; }}'
    )
    events.emit("network", message="fetching nixpkgs")
    path = nix.run(["eval", "--raw", "--impure", "--expr", fetch])
    suffix = version_suffix(locked["lastModified"], locked["rev"])
    return Nixpkgs(path, locked["rev"], suffix, _pinned_url(locked), locked["narHash"])


def _fetched(nix: Nix, reference: str) -> Nixpkgs:
    reference = fetchable(reference)
    events.emit("network", message=f"fetching {public(reference)}")
    said = nix.run(["flake", "prefetch", "--json", reference])

    def take(found: dict[str, typing.Any]) -> Nixpkgs:
        locked = found.get("locked", {})
        nixpkgs = Nixpkgs(found["storePath"], source=reference, nar_hash=found["hash"])
        if "rev" not in locked or "lastModified" not in locked:
            return nixpkgs
        suffix = version_suffix(locked["lastModified"], locked["rev"])
        return dataclasses.replace(nixpkgs, revision=locked["rev"], suffix=suffix)

    return answer(said, take)


def version_suffix(seconds: int, revision: str) -> str:
    """Make nixpkgs' version suffix, `.20260714.8eeec93`; `seconds` since 1970."""
    return f".{date(seconds):%Y%m%d}.{revision[:7]}"


def _pinned() -> dict[str, typing.Any]:
    document: dict[str, typing.Any] = json.loads(FLAKE_LOCK.read_text())
    return typing.cast("dict[str, typing.Any]", document["nodes"]["nixpkgs"]["locked"])


def pinned_tree() -> tuple[str, ...]:
    """Return the store path of the pinned nixpkgs, if the store has it."""
    place = store_path(_pinned()["narHash"])
    return (place,) if pathlib.Path(place).exists() else ()


def _pinned_url(locked: dict[str, typing.Any]) -> str:
    return f"https://github.com/{locked['owner']}/{locked['repo']}/archive/{locked['rev']}.tar.gz"
