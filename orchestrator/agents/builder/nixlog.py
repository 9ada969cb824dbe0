"""Parses Nix' internal-json log.

The parser finds the current activity, the progress, and the cause of a failure.

Numbers of activities and results are those of Nix's `src/libutil/logging.hh`.
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import re
import typing
from collections.abc import Callable

from orchestrator.agents.builder.recorder import Recorder
from orchestrator.shared.json_reader import counted
from orchestrator.shared.text import plain, public

PREFIX = "@nix "

ACT_FILE_TRANSFER = 101
ACT_COPY_PATHS = 103
ACT_BUILDS = 104
ACT_BUILD = 105
ACT_SUBSTITUTE = 108
RES_BUILD_LOG_LINE = 101
RES_PROGRESS = 105
LEVEL_ERROR = 0

#: A derivation's path. A build may print Nix' messages, and what they name becomes an argument of
#: Nix: it must be no option, and no flake.
DERIVATION = r"/[^'#?^]+\.drv"

#: Nix' messages about a failed builder: of a local build, of one that did not make its output path,
#: of one on a remote machine. Its messages about dependants, and about derivations that no machine
#: can build, are different.
FAILED = re.compile(
    rf"(?:Cannot build|builder for) '({DERIVATION})'(?:\.\s+Reason: builder)? failed"
    rf"|build of '({DERIVATION})'(?: on '[^']*')? failed"
)

#: Nix' message about a derivation that has failed on a builder; without it, the builder was lost.
THERE = re.compile(rf"build of '({DERIVATION})' on '([^']+)' failed: (?s:(.*))")

#: What Nix says first of a builder's own failure, not of the derivation's.
NOT_BUILT = re.compile(r"No space left on device", re.IGNORECASE)

#: Nix' message about a builder that it cannot use.
UNUSED = re.compile(r"cannot build on '([^']+)': (?:error: )?(.*)")

#: Nix' warning about a path of a cache that none of the trusted keys has signed.
UNSIGNED = re.compile(r"ignoring substitute for '[^']+' from '([^']+)', as it's not signed")

#: Nix' error about a path that no cache has given, though one has it: others say why.
NOT_FETCHED = re.compile(r"path '([^']+)' is required, but there is no substituter")

#: A warning of Nix, which those of builders have as level error.
LOUD = "warning:"

#: Prefix of a warning of the evaluated expression, for example of NixOS' option `warnings`.
WARNING = "evaluation warning:"

#: Prefix of our expressions' trace messages with each image's file name, as JSON.
FILE = "trace: nixos-image-file "

#: The same with each image's spec, which is null for an image that nixpkgs makes.
SPEC = "trace: nixos-image-spec "

#: Number of warnings of one kind that are told.
WARNINGS = 200

#: Number of lines of a failed derivation's log in the error.
TAIL_LINES = 30


def derivation_name(path: str) -> str:
    """Shorten a derivation's path: `/nix/store/<hash>-linux.drv` -> `linux`."""
    return re.sub(r"^/nix/store/[^-]+-|\.drv$", "", path)


@dataclasses.dataclass(frozen=True)
class Problem:
    """An error of Nix: `places` are FILE:LINE, innermost first.

    `trace` is Nix' whole message, `doings` what Nix was doing, innermost first.
    """

    text: str
    places: tuple[str, ...]
    trace: str
    doings: tuple[str, ...] = ()

    def moved(self, copy: str, original: str) -> typing.Self:
        """Return the problem with the folder `copy` called `original`."""
        return dataclasses.replace(
            self,
            text=self.text.replace(copy, original),
            places=tuple(place.replace(copy, original) for place in self.places),
            trace=self.trace.replace(copy, original),
        )


@dataclasses.dataclass
class NixLog:
    """Parser state for one Nix command: `feed` takes each line of stderr.

    `log` gets the text, `recorder` the begin and end of downloads and builds. `done` and `expected`
    are numbers of builds, `paths_done` and `paths_expected` of store paths that are fetched,
    `received` the bytes of all downloads. If `fresh` is not None, it gets the builds' log lines.
    `machines` has the address of the builder of each derivation (.drv path) that is built on
    another machine, `refused` why Nix could not use a builder, by its address. `caches` has the
    cache of each store path that Nix has begun to fetch, `unsigned` the caches that have paths
    which Nix does not take. `hide` removes secrets from what people see: log, warnings, `told`.
    `errors` and `notes`, which are parsed, still have them: a secret may be part of a path, too.

    Nix passes on what a build prints in the format of its log (`@nix {"action": "msg"`) as if it
    were Nix' own. So if the command only builds, not `evaluates`, no message is taken for the words
    of an evaluation: file names, specs, warnings, and notes, which are the plan of a dry run. Nor
    is any while something is built: an evaluation waits for what it imports. `untold` is the number
    of warnings that were left out because there are too many.
    """

    log: typing.TextIO
    recorder: Recorder = dataclasses.field(default_factory=Recorder)
    evaluates: bool = True
    hide: Callable[[str], str] = public
    untold: int = 0
    done: int = 0
    expected: int = 0
    paths_done: int = 0
    paths_expected: int = 0
    received: int = 0
    fresh: collections.deque[str] | None = None
    errors: list[str] = dataclasses.field(default_factory=list, repr=False)
    problem: Problem | None = None
    notes: list[str] = dataclasses.field(default_factory=list, repr=False)
    warnings: list[str] = dataclasses.field(default_factory=list)
    files: list[typing.Any] = dataclasses.field(default_factory=list)
    specs: list[str] = dataclasses.field(default_factory=list)
    machines: dict[str, str] = dataclasses.field(default_factory=dict)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    caches: dict[str, str] = dataclasses.field(default_factory=dict)
    unsigned: collections.deque[str] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=WARNINGS)
    )
    _running: dict[int, str] = dataclasses.field(default_factory=dict)
    _transfers: dict[int, str] = dataclasses.field(default_factory=dict)
    _sizes: dict[int, int] = dataclasses.field(default_factory=dict)
    _copies: set[int] = dataclasses.field(default_factory=set)
    _builds: set[int] = dataclasses.field(default_factory=set)
    _tails: dict[str, collections.deque[str]] = dataclasses.field(default_factory=dict)

    @property
    def current(self) -> str:
        """The derivation or download in progress; empty while Nix evaluates."""
        names = [*self._running.values(), *self._transfers.values()]
        return names[-1] if names else ""

    @property
    def told(self) -> str:
        """Nix' errors as people may see them, without secrets; one per line or more."""
        return "\n".join(map(self.hide, self.errors))

    @property
    def _evaluating(self) -> bool:
        """Whether a message may be the evaluation's."""
        return self.evaluates and not self._running

    @property
    def failed_path(self) -> str:
        """Path of the derivation that failed first, or ""."""
        found = (FAILED.search(error) for error in self.errors)
        return next((match[1] or match[2] for match in found if match), "")

    @property
    def failed(self) -> str:
        """Name of the derivation that failed first, or ""."""
        return derivation_name(self.failed_path)

    @property
    def tail(self) -> str:
        """Last lines of the failed derivation's log."""
        return "\n".join(self._tails.get(self.failed, ()))

    @property
    def lost(self) -> dict[str, list[str]]:
        """Builders that were lost, by address, with what was said of it.

        A derivation has failed that Nix had given to one, and not by the derivation's own fault; or
        Nix could not connect.
        """
        found = (THERE.search(error) for error in self.errors)
        told = {match[1]: self.hide(match[3]) for match in found if match}
        lost: dict[str, list[str]] = {}
        for drv in self._failures():
            if (uri := self.machines.get(drv)) and (drv not in told or NOT_BUILT.search(told[drv])):
                said = [told[drv]] if drv in told else self._disconnects()
                lost.setdefault(uri, []).extend(said or ["the connection ended"])
        for uri, cause in self.refused.items():
            lost.setdefault(uri, []).append(cause)
        return lost

    @property
    def spoiled(self) -> tuple[str, str] | None:
        """The store path that a cache has and could not give, and the cache; None if all could."""
        found = (NOT_FETCHED.search(error) for error in self.errors)
        paths = (match[1] for match in found if match)
        return next(((path, self.caches[path]) for path in paths if path in self.caches), None)

    @property
    def failed_for_good(self) -> bool:
        """Whether a derivation has failed by its own fault, while builders may build on."""
        if not self.machines or not self.problem:
            return False
        lost = self.lost
        return any(self.machines.get(drv) not in lost for drv in self._failures())

    def _failures(self) -> list[str]:
        """Return the paths of derivations that have failed."""
        found = (FAILED.search(error) for error in self.errors)
        return list(dict.fromkeys(match[1] or match[2] for match in found if match))

    def _disconnects(self) -> list[str]:
        """Return Nix' words for lost connections."""
        found = (one for one in self.errors if "disconnected" in one or "end-of-file" in one)
        return [self.hide(one) for one in found]

    def feed(self, line: str) -> None:
        """Parse one line, JSON or not."""
        if not line.startswith(PREFIX):
            self._write(plain(line))
            return
        try:
            event = json.loads(line.removeprefix(PREFIX))
        except (ValueError, RecursionError):
            self._write(plain(line))
            return
        match event:
            case {"action": "start", "id": int(number), "type": int(kind)}:
                self._start(number, kind, event)
            case {"action": "stop", "id": int(number)}:
                self.recorder.end(number)
                self._running.pop(number, None)
                self._transfers.pop(number, None)
                self._sizes.pop(number, None)
            case {"action": "result", "id": int(number), "type": int(kind), "fields": list(fields)}:
                self._result(number, kind, fields)
            case {"action": "msg", "msg": str(text)} if self._evaluating and text.startswith(FILE):
                with contextlib.suppress(ValueError, RecursionError):
                    self.files.append(json.loads(text.removeprefix(FILE)))
            case {"action": "msg", "msg": str(text)} if self._evaluating and text.startswith(SPEC):
                self.specs.append(text.removeprefix(SPEC))
            case {"action": "msg", "msg": str(text)}:
                self._write(plain(text))
                if event.get("level") == LEVEL_ERROR:
                    self._error(event, plain(text))
                elif self._evaluating and plain(text).startswith(WARNING):
                    self._warning(event, plain(text))
                elif (match := UNSIGNED.search(plain(text))) and match[1] not in self.unsigned:
                    self.unsigned.append(match[1])

    def _error(self, event: dict[str, typing.Any], text: str) -> None:
        """Record a message of level error; only real errors have `raw_msg`, notes do not."""
        if text.startswith(LOUD):
            return
        if match := UNUSED.match(text):
            self.refused[match[1]] = self.hide(match[2])
        if "raw_msg" not in event:
            if not self._running:
                self.notes.append(text)
            self.errors.append(text)
            return
        self.errors.append(plain(str(event["raw_msg"])))
        raw = self.hide(self.errors[-1])
        trace = event.get("trace")
        frames = [event, *(trace if isinstance(trace, list) else [])]
        frames = [frame for frame in frames if isinstance(frame, dict)]
        places = (plain(str(frame.get("file"))) for frame in frames if frame.get("line"))
        doings = tuple(self._told(frame.get("raw_msg")) for frame in frames[1:])
        # Nix' places are FILE:LINE:COLUMN: remove the column.
        lines = tuple(place.rpartition(":")[0] for place in places)
        self.problem = Problem(raw, lines, self.hide(text), doings)

    def _warning(self, event: dict[str, typing.Any], text: str) -> None:
        """Without Nix' indentation, and once for all images that it is said of."""
        raw = self._told(event.get("raw_msg", text.removeprefix(WARNING).strip()))
        if raw in self.warnings:
            return
        if len(self.warnings) < WARNINGS:
            self.warnings.append(raw)
        else:
            self.untold += 1

    def _start(self, number: int, kind: int, event: dict[str, typing.Any]) -> None:
        fields = event.get("fields")
        subject = plain(str(fields[0])) if isinstance(fields, list) and fields else ""
        if isinstance(parent := event.get("parent"), int) and parent:
            self.recorder.inner(number, parent)
        within = event.get("parent") and bool(self.machines)  # what a builder says of itself
        if kind == ACT_BUILD:
            self._running[number] = derivation_name(subject)
            if within and subject in self.machines:
                return
            machine = _second(fields)
            if machine:
                self.machines[subject] = machine
            self.recorder.begin(number, derivation_name(subject), subject, machine)
            self._write(f"building {self._running[number]}{machine and f' on {machine}'}")
        elif kind == ACT_FILE_TRANSFER:
            self._transfers[number] = pathlib.PurePosixPath(subject).name
        elif kind == ACT_SUBSTITUTE:
            self.recorder.begin(number, derivation_name(subject))
            self.caches[subject] = _second(fields)
        elif kind in {ACT_BUILDS, ACT_COPY_PATHS} and within:
            return
        elif kind == ACT_BUILDS:
            self._builds.add(number)
        elif kind == ACT_COPY_PATHS:
            self._copies.add(number)

    def _result(self, number: int, kind: int, fields: list[typing.Any]) -> None:
        match fields:
            case [int(done), int(expected), *_] if kind == RES_PROGRESS and number in self._builds:
                self.done, self.expected = counted(done), counted(expected)
            case [int(done), int(expected), *_] if kind == RES_PROGRESS and number in self._copies:
                self.paths_done, self.paths_expected = counted(done), counted(expected)
            case [int(done), *_] if kind == RES_PROGRESS and number in self._transfers:
                done = counted(done)  # a build may tell of downloads, too
                self.recorder.received(number, done)
                more = max(0, done - self._sizes.get(number, 0))
                self.received = counted(self.received + more)
                self._sizes[number] = done
            case [str(line), *_] if kind == RES_BUILD_LOG_LINE and number in self._running:
                name, text = self._running[number], self._told(line)
                self._tails.setdefault(name, collections.deque(maxlen=TAIL_LINES)).append(text)
                self._write(f"{name}> {text}")
                if self.fresh is not None:
                    self.fresh.append(f"{name}> {text}")

    def _told(self, text: object) -> str:
        """Return what Nix says without control sequences and secrets."""
        return self.hide(plain(str(text)))

    def _write(self, text: str) -> None:
        self.log.write(f"{self.hide(text)}\n")


def _second(fields: object) -> str:
    """Return the second field of an activity if it is a text, or ""."""
    match fields:
        case [_, str(text), *_]:
            return plain(text)
    return ""
