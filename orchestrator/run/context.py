"""State of one run: what was asked, what will be done, and what the run has for it."""

import dataclasses
import typing

from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.decide.plan import Plan
from orchestrator.docker.engine import Engine
from orchestrator.docker.images import Images
from orchestrator.docker.workspace import Workspace
from orchestrator.run.word import Word
from orchestrator.shared.artifact import Artifact
from orchestrator.shared.progress import Progress
from orchestrator.shared.steps import Hand


@dataclasses.dataclass(frozen=True)
class RunContext:
    """One attempt to fulfil `request` by `plan`.

    `deadline` is a time of the monotonic clock. `hosts` are the host names in the images' names
    (`late_files.hosts`), `sent` the caller's files as they came (`provenance.sent`). `word` is the
    person's, whom run.sh asks. `delivered` are images in the output folder that may stay. `earlier`
    is what builders on other machines did in attempts that have failed: the store has it. With
    `closure` no image is made: the run ends when Nix has built what images are made of.
    """

    caller: Caller
    request: Demo | Build
    plan: Plan
    engine: Engine
    images: Images
    progress: Progress
    workspace: Workspace
    deadline: float
    hosts: tuple[str, ...]
    sent: list[dict[str, typing.Any]]
    word: Word
    delivered: tuple[Artifact, ...] = ()
    earlier: list[Hand] = dataclasses.field(default_factory=list)
    closure: bool = False
