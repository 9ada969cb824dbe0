"""Runs Nix: progress as events, failures as `AgentError`."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import threading
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.agents import events
from orchestrator.agents.builder import collect, debug, limits
from orchestrator.agents.builder.crew import Crew
from orchestrator.agents.builder.evaluation import explain
from orchestrator.agents.builder.hiding import hider
from orchestrator.agents.builder.nix_failure import Failure
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.builder.nixlog import NixLog, Problem
from orchestrator.agents.builder.recorder import Recorder
from orchestrator.agents.builder.reporter import Reporter
from orchestrator.agents.builder.ssh import FULL
from orchestrator.agents.failure import AgentError
from orchestrator.agents.room import Room
from orchestrator.shared import command as programs
from orchestrator.shared.codes import DISK_FULL
from orchestrator.shared.task import FAILED
from orchestrator.shared.text import public

STORE = pathlib.Path("/nix")

#: Lowest version of Nix without these vulnerabilities. CVE-2026-44028: a store path's archive
#: overflows Nix' stack (fixed in 2.34.7). CVE-2026-39860: a fixed-output derivation writes to files
#: outside of its sandbox (2.34.5). CVE-2025-46415: a build can have files outside of it deleted
#: (2.29.1).
LOWEST = (2, 34, 7)
HOLES = ("CVE-2026-44028", "CVE-2026-39860", "CVE-2025-46415")

#: Lowest number of a descriptor that Nix inherits: Nix' helpers use low ones.
DESCRIPTOR = 64


def version() -> str:
    """Return Nix' version, such as `2.34.8`; raises `AgentError` if it is below `LOWEST`."""
    said = programs.run(["nix", "--version"], fails=AgentError).text.strip()
    match = re.fullmatch(r"nix \(Nix\) (([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?.*)", said)
    if not match or tuple(int(number or 0) for number in match.groups()[1:]) < LOWEST:
        lowest = ".".join(map(str, LOWEST))
        raise AgentError(
            f"{said} is too old: at least {lowest} is required, because of {', '.join(HOLES)}",
            hint="./run.sh pins --update renews Nix",
            kind="host",
        )
    return match[1]


class _LostError(AgentError):
    """A builder was lost, and Nix has failed, for whichever reason: it may succeed without it."""


@contextlib.contextmanager
def _readable_once(text: str) -> Iterator[tuple[int, ...]]:
    """Yield a pipe's descriptor with `text`, for a child process; nothing if `text` is empty.

    Nix reads it first; processes that Nix starts find an empty pipe.
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
    """Runs Nix commands with `settings`; their log goes to `log_file`.

    `secret` are the caller's nix.conf lines, such as access tokens: only Nix may read them, no
    evaluation or build. `options` are added to each command line; they override both.

    `check` gets the spec (JSON) of each image as soon as Nix has evaluated it, before Nix builds.
    An `AgentError` that it raises ends the command.

    Error messages show paths below `sources`, the caller's files, without that prefix, and never
    name a place below `nixpkgs`. `copy` is a folder of the store, and the one of `sources` that it
    is a copy of: messages name the latter.

    `recorder` gets the downloads and builds of all commands. `crew` are the builders on other
    machines; one that is lost while Nix builds is left out, and Nix is run again. `unsigned` are
    the caches that `tell_unsigned` has named. With `verbose` the log lines of builds are events,
    too. `isolated` says that all builds here run in the sandbox (`sandbox.obtain`).
    """

    settings: Settings
    log_file: pathlib.Path
    sources: str = ""
    nixpkgs: str = ""
    copy: tuple[str, str] | None = None
    show_trace: bool = False
    verbose: bool = False
    isolated: bool = False
    secret: str = dataclasses.field(default="", repr=False)
    options: tuple[str, ...] = ()
    check: Callable[[str], None] = dataclasses.field(default=lambda _spec: None, repr=False)
    recorder: Recorder = dataclasses.field(default_factory=Recorder, repr=False, compare=False)
    crew: Crew = dataclasses.field(default_factory=Crew, repr=False, compare=False)
    unsigned: set[str] = dataclasses.field(default_factory=set, repr=False, compare=False)

    @property
    def hide(self) -> Callable[[str], str]:
        """Removes the secrets of `secret`, and the passwords of URLs, from Nix' words."""
        return hider(self.secret)

    def without(self, caches: Iterable[str]) -> "Nix":
        """Return the same without the substituters `caches`."""
        gone = {_bare(one) for one in caches}
        left = tuple(one for one in self.settings.substituters if _bare(one) not in gone)
        return dataclasses.replace(
            self, settings=dataclasses.replace(self.settings, substituters=left)
        )

    def fetching(self) -> "Nix":
        """Return the same without builds, here or elsewhere, whatever the caller's options are."""
        settings = dataclasses.replace(self.settings, builds=False)
        options = (*self.options, "--max-jobs", "0", "--builders", "")
        return dataclasses.replace(self, settings=settings, options=options, crew=Crew())

    def build(self, arguments: list[str], number: int = 1) -> list[pathlib.Path]:
        """Run `nix build`; return the `number` outputs in the order of the arguments.

        Raises `AgentError` with the derivation's name and the end of its log.
        """
        said = self.run(["build", "--json", "--no-link", *arguments])

        def take(made: list[dict[str, typing.Any]]) -> list[pathlib.Path]:
            found = zip(range(number), made, strict=True)
            return [pathlib.Path(one["outputs"]["out"]) for _, one in found]

        return answer(said, take)

    def build_derivations(self, derivations: list[str]) -> list[pathlib.Path]:
        """Build `derivations` (.drv paths), just evaluated; return the output `out` of each.

        If the disk fills up meanwhile, the store's garbage is collected, and Nix goes on. Raises
        `AgentError` as `build` does.
        """
        unique = list(dict.fromkeys(derivations))
        words = ["build", "--json", "--no-link", *(f"{drv}^out" for drv in unique)]
        try:
            said, _log = self.run_logged(words, again=True, evaluates=False)
        except AgentError as error:
            if error.code != DISK_FULL or not collect.make_room_for(unique):
                raise
            said, _log = self.run_logged(words, again=True, evaluates=False)

        def take(made: list[dict[str, typing.Any]]) -> list[pathlib.Path]:
            found = {one["drvPath"]: pathlib.Path(one["outputs"]["out"]) for one in made}
            return [found[drv] for drv in derivations]

        return answer(said, take)

    def ask(
        self,
        arguments: list[str],
        seconds: float,
        variables: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> programs.Done:
        """Run one Nix command with the settings of a build, for at most `seconds`.

        `variables` are added to its environment. Does not raise if the command fails.
        """
        with _readable_once(self.secret) as descriptors:
            return programs.run(
                ["nix", *arguments, *self.options],
                variables={**self._environment(descriptors), **(variables or {})},
                descriptors=descriptors,
                stdin=stdin.encode(),
                timeout=seconds,
                check=False,
            )

    def run(self, arguments: list[str]) -> str:
        """Run one Nix command; return its stdout."""
        return self.run_logged(arguments)[0]

    def run_logged(
        self, arguments: list[str], *, again: bool = False, evaluates: bool = True
    ) -> tuple[str, NixLog]:
        """Run one Nix command; return its stdout and its log.

        The log file has the command's log; with `again` also what it had before. Of a command that
        only builds, not `evaluates`, nothing is taken for the words of an evaluation.
        """
        while True:
            try:
                return self._run_once(arguments, again=again, evaluates=evaluates)
            except _LostError:
                again = True

    def _run_once(
        self, arguments: list[str], *, again: bool, evaluates: bool
    ) -> tuple[str, NixLog]:
        """Run one Nix command as `run_logged` does, with the builders that are alive.

        Raises `AgentError`; `_LostError` if that may be because a builder was lost: `crew` has
        fewer builders then.
        """
        before, store, lock = limits.met(), Room(STORE), threading.Lock()
        with (
            store.watched(),
            self.log_file.open("a" if again else "w") as text,
            _readable_once(self.secret) as descriptors,
            # stdout is no pipe: it is read when Nix has ended, and Nix would wait at a full one.
            os.fdopen(os.memfd_create("stdout"), "r+b") as said,
            programs.ending(
                self._start(arguments, said, descriptors, evaluates=evaluates)
            ) as process,
        ):
            assert process.stderr is not None
            log = NixLog(text, self.recorder, evaluates=evaluates, hide=self.hide)
            with Reporter(log, lock, self.verbose).running():
                for line in process.stderr:
                    with lock:
                        log.feed(line.decode(errors="replace").rstrip("\n"))
                    if log.files:
                        events.emit("file", message=None, file=log.files.pop())
                    if log.specs:
                        self.check(log.specs.pop())
                    if log.unsigned:
                        self.tell_unsigned(log.unsigned)
                    if log.failed_for_good:
                        process.terminate()
            process.wait()
            said.seek(0)
            output = said.read().decode(errors="replace")
        for warning in log.warnings:
            events.emit("configuration", level="warning", message=self._named(warning))
        if log.untold:
            more = f"{log.untold} more warnings of the evaluation are in Nix' log"
            events.emit("configuration", level="warning", message=more)
        fewer = self._leave_out(log)
        if process.returncode != 0:
            if self.settings.keep_failed and log.failed_path:
                debug.note(self.log_file.with_name(FAILED), log.failed_path)
            error = Failure(
                log,
                process.returncode,
                store,
                met=limits.met() - before,
                crew=self.crew,
                platforms=self.settings.platforms,
                explained=self._explained,
            ).error()
            if fewer and not log.failed_for_good:
                raise _LostError(str(error)) from error
            raise error
        return output.strip(), log

    def _start(
        self,
        arguments: list[str],
        stdout: typing.IO[bytes],
        descriptors: tuple[int, ...],
        *,
        evaluates: bool,
    ) -> programs.Process:
        # --show-trace: the trace has the caller's line, even if the user does not see the trace.
        told = ("--log-format", "internal-json", "--show-trace")
        return programs.start(
            ["nix", *arguments, *self.options, *told],
            stdout=stdout,
            variables=self._environment(descriptors, evaluates=evaluates),
            descriptors=descriptors,
        )

    def _environment(
        self, descriptors: tuple[int, ...], *, evaluates: bool = False
    ) -> dict[str, str]:
        """Return the environment; NIX_CONFIG ends with an include of each descriptor."""
        included = "".join(f"include /proc/self/fd/{one}\n" for one in descriptors)
        own = self.settings.text() + self.crew.text()
        variables = {**self.settings.environment(evaluates=evaluates), **self.crew.variables()}
        return {**variables, "NIX_CONFIG": own + included}

    def _leave_out(self, log: NixLog) -> bool:
        """Leave out builders that were lost during the command with the log `log`.

        Returns whether there are any.
        """
        before = len(self.crew.lost)
        for uri, causes in log.lost.items():
            if builder := self.crew.find(uri):
                full = next((one for one in causes if FULL.search(one)), "")
                cause = "its disk is full" if full else (causes[0] if causes else "no answer")
                self.crew.lose(builder, f"lost while it built: {cause}")
        return len(self.crew.lost) > before

    def tell_unsigned(self, found: Iterable[str]) -> None:
        """Warn once of each cache with paths that Nix does not take, but builds without a word.

        A build may print Nix' words: only caches that Nix was told of count.
        """
        known = {_bare(one) for one in self.settings.substituters}
        for cache in {_bare(one) for one in found} & known - self.unsigned:
            self.unsigned.add(cache)
            events.emit(
                "cache-unsigned",
                level="warning",
                message=f"{public(cache)} has paths that no trusted key has signed"
                " (--trusted-public-key): they are not taken from there",
            )

    def _explained(self, problem: Problem) -> AgentError:
        """Return the error for a problem of the evaluation, with the caller's own paths."""
        problem = problem.moved(*self.copy) if self.copy else problem
        return explain(problem, self.sources, self.nixpkgs, show_trace=self.show_trace)

    def _named(self, text: str) -> str:
        """Return `text` with the caller's own paths."""
        text = text.replace(*self.copy) if self.copy else text
        return text.replace(self.sources, "") if self.sources else text


def _bare(cache: str) -> str:
    """Return the URL of a cache without its settings, as Nix may tell it."""
    return cache.partition("?")[0].rstrip("/")


def answer[Answer](said: str, take: Callable[[typing.Any], Answer]) -> Answer:
    """Apply `take` to the JSON output `said` of a Nix command.

    Raises `AgentError` for invalid output: a build without a sandbox runs as the builder's user,
    and can take part of Nix' output.
    """
    try:
        return take(json.loads(said))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AgentError(
            f"Nix' output is invalid: {error!r}",
            hint="a build without a sandbox may have taken part of that output away;"
            " --strict forbids such builds",
            kind="build",
        ) from error


def attribute_paths(attributes: typing.Iterable[tuple[str, ...]]) -> list[str]:
    """Format attribute paths for Nix' command line."""
    return [".".join(json.dumps(name) for name in names) for names in attributes]
