"""Sees what the rules of `doctor` judge: the engine, its host, and servers."""

import concurrent.futures
import dataclasses
import os
import pathlib
import typing

from orchestrator.ask.request import Caller, Demo
from orchestrator.decide.host import HostFacts, measure
from orchestrator.decide.plan import Plan, make_plan
from orchestrator.docker import census
from orchestrator.docker.answers import LostEngineError, read_text
from orchestrator.docker.census import COMPOSE_RUN
from orchestrator.docker.engine import Engine, EngineInfo
from orchestrator.docker.facts import SYSCTLS
from orchestrator.docker.stored import Used
from orchestrator.shared.errors import ApplianceError, DockerError, EmulationError, HostError
from orchestrator.shared.json_reader import FreeText, Whole
from orchestrator.shared.paths import CA_BUNDLE
from orchestrator.shared.run import WORK

#: Values of SYSCTLS that forbid user namespaces.
FORBIDDING = {
    "kernel/apparmor_restrict_unprivileged_userns": "1",
    "kernel/unprivileged_userns_clone": "0",
    "user/max_mnt_namespaces": "0",
    "user/max_user_namespaces": "0",
}

#: Where the kernel shows that it has KVM; containers see it, too.
KVM = pathlib.Path("/sys/class/misc/kvm")


class Answer(typing.TypedDict):
    """A server's answer: its URL, what was wrong, and by how many seconds this clock is ahead."""

    url: str
    problem: FreeText
    skew: Whole | None


class Survey(typing.TypedDict):
    """What `agents/survey.py` prints."""

    answers: dict[str, Answer]


@dataclasses.dataclass(frozen=True)
class Sight:
    """What was seen of the engine and its host.

    `facts` and `plan` are None, with `problem`, if they cannot be made. `inodes` are free inodes,
    None where the file system has no fixed number. `servers` are the answers of `agents/survey.py`
    by name, empty with `unasked`, the reason. `forbidding` are sysctls that forbid user namespaces,
    `dead` the runs that have ended and left something. `memory`, `disk`: bytes.
    """

    info: EngineInfo
    podman: bool
    socket: str
    disk: int
    inodes: int | None
    tells_case: bool
    kvm: bool
    facts: HostFacts | None = None
    plan: Plan | None = None
    problem: ApplianceError | None = None
    servers: dict[str, Answer] = dataclasses.field(default_factory=dict)
    unasked: str = ""
    forbidding: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    used: tuple[Used, ...] = ()


def look(
    engine: Engine, folder: pathlib.Path, demo: Demo, targets: tuple[str, ...], who: Caller
) -> Sight:
    """See the engine and its host; `folder` is an empty one on the disk of Docker's data."""
    info, facts, plan, problem = engine.info(), None, None, None
    # An engine that adds up the sizes of its files takes seconds: all else is looked at meanwhile.
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    usage = pool.submit(engine.usage)
    pool.shutdown(wait=False)
    try:
        facts = measure(engine, targets, None, private=demo.emulation in {"auto", "private"})
        plan = make_plan(demo, facts)
    except (HostError, EmulationError) as error:
        problem = error
    servers, unasked = _survey(engine, who)
    disk = os.statvfs(WORK)
    (folder / "letter-case").touch()
    runs = census.runs(engine) - census.starting_runs(engine) - {engine.run, COMPOSE_RUN}
    runs -= census.living_runs(engine)
    return Sight(
        info=info,
        podman=engine.is_podman(),
        socket=who.socket,
        disk=disk.f_bavail * disk.f_frsize,
        inodes=disk.f_favail if disk.f_files else None,
        tells_case=not (folder / "LETTER-CASE").exists(),
        kvm=KVM.exists(),
        facts=facts,
        plan=plan,
        problem=problem,
        servers=servers,
        unasked=unasked,
        forbidding=tuple(name for name in SYSCTLS if _sysctl(name) == FORBIDDING[name]),
        dead=tuple(sorted(runs)),
        used=tuple(one for one in usage.result() if engine.run not in one.name),
    )


def _survey(engine: Engine, who: Caller) -> tuple[dict[str, Answer], str]:
    variables = {"SSL_CERT_FILE": CA_BUNDLE} if who.ca_bundle else {}
    try:
        said = engine.run_service("survey", [], variables=variables)
    except LostEngineError:
        raise
    except DockerError as error:
        return {}, f"a container with a network cannot be started: {error}"
    return read_text(Survey, said, "survey")["answers"], ""


def _sysctl(name: str) -> str:
    try:
        return pathlib.Path("/proc/sys", name).read_text().strip()
    except OSError:  # the kernel does not have it
        return ""
