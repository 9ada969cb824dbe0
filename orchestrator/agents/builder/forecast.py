"""Tells what a build will cost, and builds what was evaluated for that.

`nix build --dry-run` evaluates; its derivations are built without a second evaluation.
"""

import dataclasses
import json
import os
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Sequence

from orchestrator.agents import events
from orchestrator.agents.builder.nix import STORE, Nix, answer
from orchestrator.agents.builder.nix_settings import CACHE
from orchestrator.agents.builder.nixlog import derivation_name
from orchestrator.agents.builder.sandbox import BUSYBOX
from orchestrator.agents.emulation import crash
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command
from orchestrator.shared.architectures import RUNS_TOO, this_system
from orchestrator.shared.constants import MIB
from orchestrator.shared.cost import Cost, Fetch, PlannedImage, Work
from orchestrator.shared.run import WORK
from orchestrator.shared.text import public

#: Time limit in seconds for the question which paths a substituter has: Nix has just asked it.
ASK_SECONDS = 120

#: Names of kernels. Other derivations have such names, too, but only a kernel has an output
#: `modules`.
KERNEL = re.compile(r"linux(-[a-z][a-z0-9_]*)*-[0-9]{1,9}\.[0-9]{1,9}")
MODULES = '("modules","/nix/store/'

#: A fixed-output derivation: its first output has a kind of hash. Nearly all of them are downloads.
FIXED = re.compile(r'Derive\(\[\("[^"]*","[^"]*","[^"]+",')
#: Those of the demo that unpack a package (nix/demo/default.nix) download nothing.
UNPACKS = f',"{BUSYBOX}",["sh",'
#: The first address of a download: a variable, or a field of the JSON that structured attributes
#: are.
URL = re.compile(r'\("urls?","([^"\s]+)|\\"urls?\\":\s*\[?\s*\\"([^"\\\s]+)')

#: What `nix store verify` says of a path that no trusted key has signed.
UNTRUSTED = re.compile(r"path '/nix/store/[^']+' is untrusted")


@dataclasses.dataclass(frozen=True)
class Forecast:
    """How a build's plan is told: it ends there with `dry_run`, else `agreed` awaits the word.

    `substituters` are those that Nix asks, in their order. `elsewhere` are systems that builders
    build for which this run has not asked. `signed` says that Nix takes only what a trusted key has
    signed.
    """

    substituters: tuple[str, ...] = ()
    dry_run: bool = False
    signed: bool = True
    elsewhere: tuple[str, ...] = ()
    agreed: Callable[[], None] = lambda: None

    def build(
        self, nix: Nix, arguments: list[str], wanted: Sequence[tuple[str, str]]
    ) -> list[pathlib.Path]:
        """Evaluate, tell the plan, and build; returns each image's output, or [] in a dry run.

        `wanted` are system and format of each image, in the order of the `arguments`.
        """
        said, log = nix.run_logged(["build", "--dry-run", "--json", "--no-link", *arguments])
        named = answer(
            said, lambda made: [str(one["drvPath"]) for one, _ in zip(made, wanted, strict=True)]
        )
        missing = read_missing(log.notes)
        if refused := self._refused(nix, missing):
            nix.tell_unsigned(refused)
            # Nix' plan has their paths as fetched, and Nix builds them then. The builder asks these
            # caches all the same: they may have other paths that are signed.
            words = ["build", "--dry-run", "--no-link", *(f"{drv}^out" for drv in named)]
            _said, log = nix.without(refused).run_logged(words, again=True, evaluates=False)
            missing = read_missing(log.notes)
        kept = tuple(url for url in self.substituters if url not in refused)
        dataclasses.replace(self, substituters=kept).tell(nix, named, wanted, missing)
        if self.dry_run:
            return []
        self.agreed()
        return nix.build_derivations(named)

    def _refused(self, nix: Nix, missing: "Missing") -> tuple[str, ...]:
        """Return the substituters with missing paths that no key which Nix trusts has signed.

        Nix looks for signatures when it fetches, not before. A path counts for the first
        substituter that has it, as in `sources`.
        """
        left, found = set(missing.paths), []
        for url in self.substituters if self.signed else ():
            have = _known(nix, url, left).keys() if left else set[str]()
            # NixOS' own cache has signed all that it has, and is asked for thousands of paths.
            if have and url != CACHE and "trusted=" not in url:
                words = ["store", "verify", "--no-contents", "--store", url, "--stdin"]
                names = "".join(f"{path}\n" for path in sorted(have))
                done = nix.ask(words, ASK_SECONDS, stdin=names)
                if UNTRUSTED.search(done.stderr.decode(errors="replace")):
                    found.append(url)
            left -= have
        return tuple(found)

    def tell(
        self, nix: Nix, named: list[str], wanted: Sequence[tuple[str, str]], missing: "Missing"
    ) -> None:
        """Report the cost of what is `missing` for the derivations `named`."""
        elsewhere = nix.crew.systems | frozenset(self.elsewhere)
        works = tuple(work_of(path, elsewhere) for path in missing.derivations)
        fetches = sources(nix, self.substituters, missing)
        present = present_bytes(named)
        store, work = os.statvfs(STORE), os.statvfs(WORK)
        cost = Cost(
            images=tuple(
                PlannedImage(system, name, drv)
                for drv, (system, name) in zip(named, wanted, strict=True)
            ),
            fetches=fetches,
            works=works,
            content=missing.unpacked + present,
            store_free=store.f_bavail * store.f_frsize,
            work_free=work.f_bavail * work.f_frsize,
            one_disk=STORE.stat().st_dev == WORK.stat().st_dev,
        )
        events.emit("plan", message=None, cost=dataclasses.asdict(cost))


@dataclasses.dataclass(frozen=True)
class Missing:
    """Derivations to build and paths to fetch; sizes in bytes."""

    derivations: tuple[str, ...]
    paths: tuple[str, ...]
    download: int
    unpacked: int


def read_missing(notes: list[str]) -> Missing:
    """Parse the output of `nix build --dry-run` (Nix' `src/libmain/shared.cc`, `printMissing`)."""
    found: dict[str, list[str]] = {"built": [], "fetched": []}
    kind, sizes = "", (0.0, 0.0)
    for note in notes:
        if match := re.match(r"(?:this|these) .*will be (built|fetched)", note):
            kind = match[1]
            if match := re.search(r"\(([0-9.]+) MiB download, ([0-9.]+) MiB unpacked\)", note):
                sizes = (float(match[1]), float(match[2]))
        elif kind and note.startswith("  /nix/store/"):
            found[kind].append(note.strip())
    download, unpacked = (round(size * MIB) for size in sizes)
    return Missing(tuple(found["built"]), tuple(found["fetched"]), download, unpacked)


def present_bytes(derivations: list[str]) -> int:
    """Return the size in bytes of inputs and outputs of `derivations` that the store has."""

    def ask(*query: str) -> list[str]:
        return command.run(["nix-store", "--query", *query], fails=AgentError).text.split()

    related = ask("--requisites", "--include-outputs", *derivations)
    paths = [path for path in related if not path.endswith(".drv")]
    return answer(f"[{','.join(ask('--size', *paths))}]", sum) if paths else 0


def sources(nix: Nix, substituters: tuple[str, ...], missing: Missing) -> tuple[Fetch, ...]:
    """Return which of `substituters` has how many of the missing paths.

    A path counts for the first one that has it. What none of them admits to have, Nix gets from
    one that it cannot be asked about here: its size is the rest of Nix' own sum.
    """
    left, found = set(missing.paths), []
    for url in substituters:
        have = _known(nix, url, left) if left else {}
        if have:
            download, unpacked = (sum(sizes) for sizes in zip(*have.values(), strict=True))
            found.append(Fetch(public(url), len(have), download, unpacked))
            left -= have.keys()
    if left:
        download = max(0, missing.download - sum(one.download for one in found))
        unpacked = max(0, missing.unpacked - sum(one.unpacked for one in found))
        found.append(Fetch("", len(left), download, unpacked))
    return tuple(found)


def _known(nix: Nix, url: str, paths: set[str]) -> dict[str, tuple[int, int]]:
    """Return bytes to download and to unpack of those of `paths` that the substituter has."""
    words = ["path-info", "--json", "--json-format", "1", "--store", url, "--stdin"]
    done = nix.ask(words, ASK_SECONDS, stdin="".join(f"{path}\n" for path in sorted(paths)))
    try:
        said = json.loads(done.text)
        return {
            path: (int(one.get("downloadSize", one["narSize"])), int(one["narSize"]))
            for path, one in said.items()
            if one and path in paths
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}  # the substituter does not answer: this only says less of the plan


def work_of(derivation: str, elsewhere: frozenset[str] = frozenset()) -> Work:
    """Return what kind of build the derivation (a .drv path) is.

    `elsewhere` are systems that builders on other machines build for.
    """
    text = pathlib.Path(derivation).read_text(errors="replace")
    name = derivation_name(derivation)
    if FIXED.match(text) and UNPACKS not in text:
        url = URL.search(text)
        return Work("source", name, host=_server(url[1] or url[2]) if url else "")
    system, own = crash.system_of(text), this_system()
    emulated = system not in {"", own, "builtin", *RUNS_TOO.get(own, ())}
    kernel = bool(KERNEL.match(name)) and MODULES in text
    if emulated:
        return Work("remote" if system in elsewhere else "emulated", name, kernel)
    return Work("either" if system in elsewhere else "native", name, kernel)


def _server(url: str) -> str:
    """Return the server of an address; of nixpkgs' `mirror://gnu/...` the group of mirrors."""
    place = urllib.parse.urlsplit(public(url))
    return f"mirrors of {place.netloc}" if place.scheme == "mirror" else place.netloc
