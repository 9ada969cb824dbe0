"""`clean`: remove binfmt_misc entries, containers, networks and volumes of dead runs."""

import argparse
import contextlib
import dataclasses

from orchestrator.ask.parser import Parser, add_log_format
from orchestrator.ask.request import Caller, LogFormat
from orchestrator.verbs.registry import Session, Verb


@dataclasses.dataclass(frozen=True)
class Clean:
    """Request of `clean`; with `everything`, living runs are removed, too."""

    everything: bool
    log_format: LogFormat


def work(request: Clean, session: Session) -> int:
    """Remove binfmt_misc entries, containers, networks and volumes of dead runs."""
    from orchestrator.docker import census
    from orchestrator.docker.labels import OLD_WORK_VOLUME, PROJECT
    from orchestrator.run.repair import repair_if_harmless
    from orchestrator.run.runs import forget_dead_runs, run_workspace
    from orchestrator.run.supervisor import read_event
    from orchestrator.shared.progress import make_progress

    who = session.who
    with (
        contextlib.closing(make_progress(request.log_format, who.columns)) as progress,
        run_workspace(who, {}) as (engine, _),
        progress.stage("clean"),
    ):
        if request.everything:
            for name, (run, _running) in census.containers(engine).items():
                if run != who.run and name == f"{PROJECT}-{run}":
                    engine.remove(name)
        for name in census.abandoned(engine):
            engine.remove(name)
        engine.remove_volume(OLD_WORK_VOLUME)
        forget_dead_runs(engine)
        others = census.living_runs(engine) - {engine.run}
        program = ["orchestrator.agents.builder.sweep", *([] if others else ["everything"])]
        for line in engine.run_service("sweep", program).splitlines():
            if event := read_event(line):
                progress.say(str(event.get("message", "")), fields=event)
        repair_if_harmless(engine, progress)
        engine.down()
    return 0


def _parser() -> Parser:
    parser = Parser(
        "clean", "Remove binfmt_misc entries, containers, networks and volumes of dead runs."
    )
    parser.add_argument("--all", action="store_true", help="also those of living runs")
    add_log_format(parser)
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Clean:
    return Clean(found.all, found.log_format)


VERB = Verb(
    group="keep house",
    shown=(("clean", "remove leftovers of dead runs"),),
    parser=_parser,
    request=_request,
    work=work,
    orders=lambda _: [],
)
