"""Running Nix: its settings, its progress as events, its failures as errors of ours."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import time
import typing
from collections.abc import Callable, Iterator

from orchestrator.agents import events
from orchestrator.agents.builder import memory, room
from orchestrator.agents.builder.evaluation import explain
from orchestrator.agents.builder.nixlog import NixLog
from orchestrator.agents.builder.room import Room
from orchestrator.agents.emulation import crash
from orchestrator.agents.failure import AgentError, disk_full
from orchestrator.image.filesystems.filesystem import preloaded
from orchestrator.shared import command as programs
from orchestrator.shared.constants import KILLED
from orchestrator.shared.paths import ROOT
from orchestrator.shared.text import plain

#: News of a build at most so often (seconds).
PROGRESS_SECONDS = 0.2

#: How often Nix asks for a file before it gives up, and after how long (seconds) without a byte it
#: asks again.
ATTEMPTS = 5
STALL_SECONDS = 60

STORE = pathlib.Path("/nix")

#: The lowest version without known holes, and those that it has closed: with CVE-2026-44028 a store
#: path's archive overflows Nix' stack (mended in 2.34.7); with CVE-2026-39860 a fixed-output
#: derivation writes to files outside of its sandbox (2.34.5); with CVE-2025-46415 a build has files
#: outside of it removed (2.29.1).
LOWEST = (2, 34, 7)
HOLES = ("CVE-2026-44028", "CVE-2026-39860", "CVE-2025-46415")

#: Schemes of what an evaluation may fetch: all that Nix knows and that are not files of this
#: container (`allowed-uris`, nix.conf(5)).
REMOTE = (
    *("http", "https", "ftp", "ssh", "git", "channel", "flake", "github", "gitlab", "sourcehut"),
    *("git+http", "git+https", "git+ssh", "hg+http", "hg+https", "hg+ssh"),
    *("tarball+http", "tarball+https", "file+http", "file+https", "s3"),
)

#: The lowest number of a descriptor that Nix is given: it uses low ones for its own helpers.
DESCRIPTOR = 64

#: Builds work below this folder unless a run names another one: Nix' own default depends on its
#: version.
BUILDS = "/nix/var/nix/builds"

#: Built from `readonly.c` with the builder's image: makes a sandboxed build's inputs read-only.
READONLY = ROOT / "readonly.so"


def version() -> str:
    """Nix' version, `2.34.8`; raises `AgentError` where it is older than `LOWEST`."""
    said = programs.run(["nix", "--version"], fails=AgentError).text.strip()
    match = re.fullmatch(r"nix \(Nix\) ((\d+)\.(\d+)(?:\.(\d+))?.*)", said)
    if not match or tuple(int(number or 0) for number in match.groups()[1:]) < LOWEST:
        lowest = ".".join(map(str, LOWEST))
        raise AgentError(
            f"{said} is too old: at least {lowest} is needed, because of {', '.join(HOLES)}",
            hint="./run.sh pins --update",
            kind="host",
        )
    return match[1]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What differs between runs: foreign systems whose programs run here, caches and their keys.

    `sandbox` says whether builds get one, `sandbox_paths` what of this container they see in it.
    `build_dir` is where they work: an existing folder. With `restricted`, an evaluation reads only
    what is on its search path and what it fetches.
    """

    platforms: tuple[str, ...] = ()
    substituters: tuple[str, ...] = ()
    trusted_keys: tuple[str, ...] = ()
    sandbox: bool = False
    sandbox_paths: tuple[str, ...] = ()
    build_dir: str = BUILDS
    restricted: bool = False

    def text(self) -> str:
        """Nix' configuration, from what was measured."""
        lines = {
            "experimental-features": "nix-command flakes",
            "substituters": " ".join(self.substituters),
            "trusted-public-keys": " ".join(self.trusted_keys),
            "sandbox": "true" if self.sandbox else "false",
            # Whether there is one was measured: it must not go away without a word.
            "sandbox-fallback": "false",
            "extra-sandbox-paths": " ".join(self.sandbox_paths),
            "build-users-group": "",
            "build-dir": self.build_dir,
            "max-jobs": "auto",
            "connect-timeout": "10",
            "download-attempts": str(ATTEMPTS),
            "stalled-download-timeout": str(STALL_SECONDS),
        }
        if self.platforms:
            lines["extra-platforms"] = " ".join(self.platforms)
        if self.restricted:
            lines["restrict-eval"] = "true"
            lines["allowed-uris"] = " ".join(f"{scheme}:" for scheme in REMOTE)
        return "".join(f"{name} = {value}\n" for name, value in lines.items())

    def environment(self) -> dict[str, str]:
        """The variables of a command of Nix that builds."""
        readonly = {"LD_PRELOAD": preloaded(READONLY), "READONLY_EXCEPT": self.build_dir}
        return {**os.environ, "NIX_CONFIG": self.text(), **readonly}


@contextlib.contextmanager
def _readable_once(text: str) -> Iterator[tuple[int, ...]]:
    """A descriptor from which `text` can be read once by whoever is started with it; none if empty.

    Nix reads it before it does anything else. Processes that it starts find an empty pipe.
    """
    if not text:
        yield ()
        return
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, DESCRIPTOR)
    os.close(reader)
    try:
        os.set_blocking(writer, False)
        data = text.encode(errors="surrogateescape")
        if os.write(writer, data) != len(data):
            raise BlockingIOError
    except BlockingIOError:
        os.close(high)
        raise AgentError("--nix-conf: the file is larger than 64 KiB", kind="usage") from None
    finally:
        os.close(writer)
    try:
        yield (high,)
    finally:
        os.close(high)


@dataclasses.dataclass(frozen=True)
class Nix:
    """Nix with `settings`; what a command says goes to `log_file`.

    `secret` are lines of the caller's own, access tokens for example: no process but Nix may read
    them, nor an evaluation or a build.

    What lies below `sources` is the caller's, who knows it by the path without that; what lies
    below `nixpkgs` nobody has to mend.
    """

    settings: Settings
    log_file: pathlib.Path
    sources: str = ""
    nixpkgs: str = ""
    show_trace: bool = False
    secret: str = dataclasses.field(default="", repr=False)

    def build(self, arguments: list[str], number: int = 1) -> list[pathlib.Path]:
        """`nix build`: the `number` outputs, in the order in which they are asked for.

        Raises `AgentError` with the derivation's name and the end of its log.
        """
        said = self.run(["build", "--json", "--no-link", *arguments])

        def take(made: list[dict[str, typing.Any]]) -> list[pathlib.Path]:
            found = zip(range(number), made, strict=True)
            return [pathlib.Path(one["outputs"]["out"]) for _, one in found]

        return answer(said, take)

    def run(self, arguments: list[str]) -> str:
        """One command of Nix; returns its stdout."""
        return self.run_logged(arguments)[0]

    def run_logged(self, arguments: list[str]) -> tuple[str, NixLog]:
        """One command of Nix; returns its stdout and what it has said beside."""
        kills, store = memory.kills(), Room(STORE)
        with (
            store.watched(),
            self.log_file.open("w") as text,
            _readable_once(self.secret) as descriptors,
            programs.ending(self._start(arguments, descriptors)) as process,
        ):
            assert process.stderr is not None and process.stdout is not None
            log = NixLog(text)
            told, last = 0.0, ""
            for line in process.stderr:
                log.feed(line.decode(errors="replace").rstrip("\n"))
                now = time.monotonic()
                if now - told >= PROGRESS_SECONDS and log.current != last:
                    events.emit(
                        "nix",
                        message=None,
                        done=log.done,
                        expected=log.expected,
                        current=log.current,
                    )
                    told, last = now, log.current
            output = process.stdout.read().decode(errors="replace")
        if process.returncode != 0:
            starved = memory.kills() > kills
            raise self._failure(log, process.returncode, store, starved=starved)
        return output.strip(), log

    def _start(self, arguments: list[str], descriptors: tuple[int, ...]) -> programs.Process:
        # Traces tell which of the caller's lines it was, whoever is shown them.
        words = ["nix", *arguments, "--log-format", "internal-json", "--show-trace"]
        configuration = {"NIX_CONFIG": self._configuration(descriptors)}
        return programs.start(
            words,
            stdout=programs.PIPE,
            variables={**self.settings.environment(), **configuration},
            descriptors=descriptors,
        )

    def _configuration(self, descriptors: tuple[int, ...]) -> str:
        """The settings; last the secret ones, which they name the `descriptors` of."""
        included = "".join(f"include /proc/self/fd/{one}\n" for one in descriptors)
        return self.settings.text() + included

    def _failure(self, log: NixLog, code: int, store: Room, *, starved: bool) -> AgentError:
        """What a command that has ended with exit code `code` has failed of.

        `store` is the room that it had, `starved` says that the kernel has killed a process of this
        container meanwhile.
        """
        text = "\n".join([*log.errors, log.tail]).strip()
        if match := re.search(r"unable to download '([^']+)': (.*)", text):
            return AgentError(
                f"{match[1]} cannot be fetched: {plain(match[2])}",
                hint="check the network; proxies are taken from http_proxy and https_proxy",
                kind="network",
            )
        if room.said(text) and store.scarce:
            return disk_full(text)
        if starved:
            what = f"derivation {log.failed}" if log.failed else "Nix"
            return AgentError(
                f"{what} failed: the kernel killed a process for want of memory",
                hint="--memory SIZE gives the builder more; --cores 1 needs less",
                detail=log.tail or text,
                kind="memory",
            )
        if log.failed:
            if sign := self._crash(log):
                return AgentError(
                    f"the emulator failed in derivation {log.failed}: {sign}",
                    detail=log.tail or text,
                    kind="emulator",
                )
            # The store had room: it is a disk that the derivation itself has made.
            hint = "a disk within the build is full (--disk-size?)" if room.said(text) else ""
            return AgentError(
                f"derivation {log.failed} failed",
                hint=hint,
                detail=log.tail or text,
                kind="build",
            )
        if code in (KILLED, -9):
            return AgentError("Nix was killed: out of memory?", kind="build")
        if log.problem:
            return explain(log.problem, self.sources, self.nixpkgs, show_trace=self.show_trace)
        return AgentError("Nix failed", detail=text, kind="build")

    def _crash(self, log: NixLog) -> str:
        """What tells that the failed derivation's emulator is to blame, if it had one."""
        path = pathlib.Path(log.failed_path)
        if not path.exists() or crash.system_of(path.read_text()) not in self.settings.platforms:
            return ""
        return crash.sign("\n".join(log.errors), log.tail)


def answer[Answer](said: str, take: Callable[[typing.Any], Answer]) -> Answer:
    """What `take` takes from the JSON document that a command of Nix' has said.

    Raises `AgentError` for what is none, or another: a build without a sandbox has the builder's
    user, and can read what Nix says before the builder does.
    """
    try:
        return take(json.loads(said))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AgentError(
            f"Nix' answer cannot be read: {error!r}",
            hint="a build without a sandbox may have taken part of it: --strict forbids those",
            kind="build",
        ) from error


def attribute_paths(attributes: typing.Iterable[tuple[str, ...]]) -> list[str]:
    """Attribute paths as Nix' command line takes them."""
    return [".".join(json.dumps(name) for name in names) for names in attributes]
