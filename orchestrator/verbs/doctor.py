"""`doctor`: examine this computer, its Docker engine and network by rules; report a run's plan.

run.sh examines the caller's computer before, and reports alone where there is no orchestrator
(caller/doctor.sh). It also makes the archive of `--bundle`.
"""

import argparse
import contextlib
import dataclasses
import json
import typing

from orchestrator.ask.parser import Parser, add_display_options, display
from orchestrator.ask.request import Caller, Demo, Emulation
from orchestrator.shared import rules
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES, this_system
from orchestrator.shared.display import Display
from orchestrator.shared.errors import HostError
from orchestrator.verbs import demo
from orchestrator.verbs.registry import Session, Verb

if typing.TYPE_CHECKING:
    from orchestrator.decide.sight import Sight
    from orchestrator.docker.privileges import Receipt

#: Type and version of the JSON document; caller/findings.sh prints the same without Docker.
TYPE, SCHEMA = "urn:nixos-image:doctor:v1", 1

#: Line between the text and the JSON document, which run.sh puts into two files of a bundle.
BETWEEN = "\f\n"


@dataclasses.dataclass(frozen=True)
class Doctor:
    """What `doctor` is asked for: plan of `demo`; with `privileges`, the containers', too.

    `json`: print JSON instead of text; `bundle`: print both, for run.sh.
    """

    demo: Demo
    privileges: bool
    json: bool
    bundle: bool
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "doctor",
        "Examine this computer, its Docker engine and its network: what was found, what is needed,"
        "\nwhy, and what to do. Then print the plan of a run. Nothing is built. Without Docker it"
        "\nstill says what it can.",
        "Exit code: 0 if nothing will fail, 3 if it is Docker, else 4. The rules: docs/doctor.md",
        (
            ("doctor", "what is wrong here, and what to do"),
            ("doctor --json", "for a program"),
            ("doctor --bundle bug.tar.gz", "an archive for a bug report, without secrets"),
            ("doctor --privileges", "what each container may do"),
        ),
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--bundle",
        nargs="?",
        const="",
        metavar="FILE",
        help="also make an archive for a bug report: findings, versions, settings and the last"
        " logs, without secrets (default: nixos-image-doctor-TIME.tar.gz)",
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
    return Doctor(
        demo.VERB.ask(words, who),
        found.privileges,
        found.json,
        found.bundle is not None,
        display(found),
    )


def _work(request: Doctor, session: Session) -> int:
    """Examine, print findings and plan, with `privileges` also the containers' privileges."""
    from orchestrator.decide.examine import examine
    from orchestrator.decide.plan import target_systems
    from orchestrator.decide.sight import look
    from orchestrator.docker import privileges
    from orchestrator.run.runs import run_workspace, write_variables
    from orchestrator.shared.progress import make_progress

    who = session.who
    targets = target_systems(request.demo, this_system())
    variables = {"NIXOS_IMAGE_GUEST": targets[0].partition("-")[0]}
    receipts: list[Receipt] = []
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, variables) as (engine, workspace),
    ):
        try:
            with progress.stage("look", "examining Docker, its host and the network"):
                seen = look(engine, workspace.shared, request.demo, targets, who)
            if plan := seen.plan:
                memory = {"NIXOS_IMAGE_MEMORY": f"{plan.memory}m"}
                write_variables(workspace.variables, who, memory)
            if plan and request.privileges:
                config = engine.config()
                services = [*plan.services]
                services += ["boot-kvm" if plan.kvm else "boot"] if plan.boot else []
                # The doctor has started the probe itself, to measure the host.
                probed = request.demo.emulation in {"auto", "private"} and plan.foreign
                services += ["probe"] if probed else []
                receipts = [privileges.planned(service, config) for service in services]
        finally:
            engine.down()
    findings = rules.sorted_findings([*rules.received(who.findings), *examine(seen)])
    parts = [] if request.json else [as_text(findings, seen, receipts)]
    parts += [as_json(findings, seen, receipts)] if request.json or request.bundle else []
    session.show(BETWEEN.join(parts))
    return HostError.exit_code if rules.verdict(findings) == "fails" else 0


def as_text(
    findings: list[rules.Finding], seen: "Sight", receipts: "typing.Sequence[Receipt]"
) -> str:
    """Return the report for a person: findings, space, plan; after blank lines, privileges."""
    from orchestrator.decide.pins import pinned_nix
    from orchestrator.shared.constants import MIB
    from orchestrator.shared.paths import ROOT

    lines = [one.describe() for one in findings]
    for one in seen.used:
        size = "size unknown" if one.size is None else f"{-(-one.size // MIB)} MiB"
        lines += [] if one.nameless else [f"{one.kind:<10} {one.name}, {size}"]
    nameless = sum(one.nameless for one in seen.used)
    lines += [f"image      {nameless} without a name, of earlier versions"] if nameless else []
    lines += [seen.facts.describe()] if seen.facts else []
    lines.append(f"Nix        {pinned_nix(ROOT)}")
    lines += [seen.plan.describe()] if seen.plan else []
    lines.append(rules.summary(findings))
    return "\n\n".join(["\n".join(lines), *(one.describe() for one in receipts)]) + "\n"


def as_json(
    findings: list[rules.Finding], seen: "Sight", receipts: "typing.Sequence[Receipt]"
) -> str:
    """Return the report for a program; docs/doctor.md describes its fields."""
    from orchestrator.decide.pins import pinned_nix
    from orchestrator.shared.paths import ROOT
    from orchestrator.shared.version import product_version

    document = {
        "type": TYPE,
        "schema": SCHEMA,
        "version": product_version(),
        "state": rules.verdict(findings),
        "findings": [one.document() for one in findings],
        "used": [dataclasses.asdict(one) for one in seen.used],
        "host": dataclasses.asdict(seen.facts) if seen.facts else None,
        "nix": pinned_nix(ROOT),
        "plan": dataclasses.asdict(seen.plan) if seen.plan else None,
        "privileges": [dataclasses.asdict(one) for one in receipts],
    }
    return json.dumps(document, indent=2, default=sorted) + "\n"  # only sets are no JSON


VERB = Verb(
    group="find out",
    shown=(
        ("doctor [--json]", "what is wrong with this computer, Docker or the network, and why"),
        ("doctor --bundle [FILE]", "an archive for a bug report, without secrets"),
        ("doctor --privileges", "the plan of a run, and the containers' privileges"),
    ),
    parser=_parser,
    request=_request,
    work=_work,
)
