"""`doctor`: report facts of the Docker host and the plan of a run."""

import argparse
import contextlib
import dataclasses
import typing

from orchestrator.ask.parser import Parser, add_display_options, display
from orchestrator.ask.request import Caller, Demo, Emulation
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES, this_system
from orchestrator.shared.display import Display
from orchestrator.verbs import demo
from orchestrator.verbs.registry import Session, Verb


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Request of `doctor`: plan of `demo`; with `privileges`, also the containers' privileges."""

    demo: Demo
    privileges: bool
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "doctor", "Print facts of this Docker host and the plan of a run. Nothing is built."
    )
    parser.add_argument(
        "--privileges", action="store_true", help="also print the privileges of each container"
    )
    parser.add_argument(
        "--system", choices=sorted(DEBIAN_ARCHITECTURES), help="target system of the planned run"
    )
    parser.add_argument("--emulation", choices=typing.get_args(Emulation), default="auto")
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, who: Caller) -> Doctor:
    words = ["--emulation", found.emulation, *(["--system", found.system] if found.system else [])]
    return Doctor(demo.VERB.ask(words, who), found.privileges, display(found))


def _work(request: Doctor, session: Session) -> int:
    """Print host facts and plan, with `privileges` also the containers' privileges."""
    from orchestrator.decide.host import measure
    from orchestrator.decide.pins import pinned_nix
    from orchestrator.decide.plan import make_plan, target_systems
    from orchestrator.docker import privileges
    from orchestrator.run.runs import run_workspace, write_variables
    from orchestrator.shared.paths import ROOT
    from orchestrator.shared.progress import make_progress

    who = session.who
    targets = target_systems(request.demo, this_system())
    variables = {"NIXOS_IMAGE_GUEST": targets[0].partition("-")[0]}
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, variables) as (engine, workspace),
    ):
        private = request.demo.emulation in {"auto", "private"}
        try:
            with progress.stage("look", "measuring facts of the Docker host"):
                facts = measure(engine, targets, None, private=private)
            plan = make_plan(request.demo, facts)
            memory = {"NIXOS_IMAGE_MEMORY": f"{plan.memory}m"}
            write_variables(workspace.variables, who, memory)
            nix = f"Nix        {pinned_nix(ROOT)}"
            session.write(f"{facts.describe()}\n{nix}\n{plan.describe()}\n")
            if request.privileges:
                config = engine.config()
                services = [*plan.services]
                services += ["boot-kvm" if plan.kvm else "boot"] if plan.boot else []
                # The doctor has started the probe itself, to measure the host.
                services += ["probe"] if private and plan.foreign else []
                parts = [privileges.planned(service, config).describe() for service in services]
                session.write("\n" + "\n\n".join(parts) + "\n")
        finally:
            engine.down()
    return 0


VERB = Verb(
    group="find out",
    shown=(("doctor [--privileges]", "what this host supports, and the containers' privileges"),),
    parser=_parser,
    request=_request,
    work=_work,
)
