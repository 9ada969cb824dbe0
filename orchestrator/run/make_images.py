"""Makes the images of `demo` and `build`; after an emulator's crash, with another version."""

import contextlib
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Iterator

from orchestrator.agents.emulation import ladder
from orchestrator.ask import github
from orchestrator.ask.delivered import delivered
from orchestrator.ask.request import AUTO, Build, Caller, Demo
from orchestrator.ask.uploads import mounted
from orchestrator.decide.host import measure
from orchestrator.decide.late_files import hosts
from orchestrator.decide.make_task import make_task, with_plan
from orchestrator.decide.plan import Mode, Plan, make_plan, target_systems
from orchestrator.decide.sent_keys import key_paths
from orchestrator.deliver import provenance, signing
from orchestrator.docker import facts
from orchestrator.docker.compose import MORE
from orchestrator.docker.engine import Engine
from orchestrator.docker.images import Images
from orchestrator.docker.workspace import Workspace
from orchestrator.run import debug_shell, github_keys, kept_trees
from orchestrator.run.appliance import Appliance
from orchestrator.run.context import RunContext
from orchestrator.run.repair import repair_if_harmless
from orchestrator.run.runs import forget_dead_runs, run_workspace, write_variables
from orchestrator.run.word import Word
from orchestrator.shared.architectures import this_system
from orchestrator.shared.errors import (
    ApplianceError,
    BuilderError,
    EmulationError,
    EmulatorCrashError,
)
from orchestrator.shared.progress import Progress
from orchestrator.shared.quantities import number
from orchestrator.shared.steps import Hand
from orchestrator.shared.task import Copy, DemoTask, NixosTask

#: Extra seconds beyond --timeout until cleanup ends a run by itself.
SPARE_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Closure:
    """What is done with a request's closure, of which no image is made.

    `before` is called before any agent could change the sent files, and when late values are no
    more among them; `after` when Nix has built and no container is left, with the store paths of
    the results and those of the trees that were evaluated.
    """

    before: Callable[[Workspace], None]
    after: Callable[[Engine, Workspace, tuple[str, ...], tuple[str, ...]], None]


def make_images(
    request: Demo | Build,
    who: Caller,
    progress: Progress,
    stream: int,
    began: float,
    closure: Closure | None = None,
) -> None:
    """Make images, then print each stage's duration; `began`: time of the monotonic clock.

    With `closure`, build what the images are made of, and do that in their place.
    """
    try:
        _make(request, who, progress, stream, closure)
    finally:
        progress.end()
        if progress.seconds:
            times = ", ".join(f"{name} {seconds:.1f}" for name, seconds in progress.seconds.items())
            progress.say(
                f"seconds: {times}; total {time.monotonic() - began:.1f}",
                fields={"seconds": progress.seconds},
            )


@contextlib.contextmanager
def removal_shown(progress: Progress) -> Iterator[None]:
    """Show, after a `with` block, that the run's files are removed: those sent may be many."""
    try:
        yield
    except ApplianceError as error:
        error.stage = error.stage or progress.current
        raise
    finally:
        progress.to("clean up", "removing the run's files")


def _make(
    request: Demo | Build, who: Caller, progress: Progress, stream: int, closure: Closure | None
) -> None:
    """Build images, deliver them, and boot the first one if requested."""
    deadline = time.monotonic() + request.timeout
    if request.sign:
        signing.take_key(who, request.sign, stays=os.fspath(request.sign) in key_paths(request))
    targets = target_systems(request, this_system())
    guest = targets[0].partition("-")[0]
    variables = {"NIXOS_IMAGE_GUEST": guest}
    # cleanup's deadline is later than the run's: only a run without an orchestrator reaches it.
    variables["NIXOS_IMAGE_DEADLINE_SECONDS"] = f"{request.timeout + SPARE_SECONDS:.0f}"
    if request.locked:
        variables["NIXOS_IMAGE_LOCKED"] = "1"
    with run_workspace(who, variables) as (engine, workspace), removal_shown(progress):
        if copies := mounted(who):
            kept_trees.hold(who, engine)
            words = json.dumps(kept_trees.volumes(copies, who))
            workspace.variables.with_name(MORE).write_text(words)
        progress.to("look", "measuring facts of the Docker host")
        plan = _plan(request, engine, targets, who, progress)
        variables["NIXOS_IMAGE_SYSTEMS"] = " ".join(plan.register or targets)
        variables["NIXOS_IMAGE_MEMORY"] = f"{plan.memory}m"
        if request.appliance:
            named = github.users(request)
            github_keys.fetch(engine, workspace, named, request.appliance, who, progress)
        told = not request.dry_run and not closure
        keys = provenance.public_keys(request, who) if told else []
        task = make_task(request, plan, who, workspace)
        if copies and isinstance(task.work, NixosTask) and task.work.flake:
            with progress.stage("look", "hashing sent folders"):
                hashes = kept_trees.hashed(who, engine)
            known = tuple(Copy(path, *one) for path, one in hashes.items())
            task = dataclasses.replace(task, work=dataclasses.replace(task.work, copies=known))
        names = hosts(task.options, workspace)
        # Hashed before an agent starts, because the builder may write to the sent folders.
        sent = provenance.sent(request, who, keys) if told else []
        if closure:
            task = dataclasses.replace(task, closure=True)
            closure.before(workspace)
        sign = functools.partial(signing.sign, who) if request.sign else None
        there = delivered(who, sign) if request.keeps else ()
        if request.dry_run:
            progress.end()
            if not request.as_json:
                progress.say(plan.describe())
            # A dry run only evaluates, so it needs no emulator.
            plan = dataclasses.replace(plan, services=("builder",), boot=False)
            task = dataclasses.replace(task, leased=False, foreign=(), private=())
        else:
            progress.say(f"{', '.join(plan.systems)}, {plan.mode} emulation: {plan.reason}")
        if isinstance(task.work, DemoTask):
            tell_login(task.work, progress)
        progress.to("look", "removing leftovers of dead runs")
        forget_dead_runs(engine)

        asks = who.asks and request.asks
        word = Word(stream if asks else None, yes=request.yes)
        earlier: list[Hand] = []
        built: list[tuple[str, ...]] = []

        def attempt(asked: Demo | Build) -> None:
            tag = _image_tag(asked.qemu)
            write_variables(workspace.variables, who, variables | {"NIXOS_IMAGE_QEMU": tag})
            logs = workspace.logs
            images = Images(engine, guest, logs, own=who.image, locked=asked.locked, qemu=tag)
            images.want(plan.images)
            images.want(("boot",) if plan.boot else ())
            try:
                run = RunContext(
                    caller=who,
                    request=asked,
                    plan=plan,
                    engine=engine,
                    images=images,
                    progress=progress,
                    workspace=workspace,
                    deadline=deadline,
                    hosts=names,
                    sent=sent,
                    word=word,
                    delivered=there,
                    earlier=earlier,
                    closure=closure is not None,
                )
                appliance = Appliance(run)
                appliance.run(task, stream)
                if closure:
                    results = appliance.announced("results", "results")
                    built[:] = results, appliance.announced("trees", "paths")
            except EmulationError:
                facts.forget(engine)  # the remembered facts of the host may be wrong
                raise
            finally:
                images.close()

        try:
            try:
                retry_after_crash(request, plan.mode, attempt, progress)
            except BuilderError as error:
                plan = _plan_alone(request, engine, targets, who, progress, error)
                variables["NIXOS_IMAGE_SYSTEMS"] = " ".join(plan.register or targets)
                task = with_plan(task, plan)
                retry_after_crash(request, plan.mode, attempt, progress)
        except ApplianceError:
            if request.debug_shell:
                debug_shell.keep(workspace)
            raise
        if closure:
            closure.after(engine, workspace, *built)


def tell_login(demo: DemoTask, progress: Progress) -> None:
    """Say who can log in to the demo."""
    if keys := demo.authorized_keys:
        progress.say(f"{demo.user} can log in, by {number(len(keys), 'SSH key')}")
    else:
        progress.say(
            "no SSH key was found: nobody can log in to the image (--ssh-key FILE)",
            level="warning",
        )


def retry_after_crash(
    request: Demo | Build,
    mode: Mode,
    attempt: Callable[[Demo | Build], None],
    progress: Progress,
) -> None:
    """Call `attempt`; if the emulator crashes, put the next version into the error's hint.

    With --qemu auto, call `attempt` once more, with the next version.
    """
    rungs = ladder.rungs()
    used = request.qemu if request.qemu in rungs else rungs[0]
    # The host's own emulator is not one of the pinned versions.
    other = rungs[0] if mode == "host" else ladder.next_rung(used)
    try:
        attempt(request)
    except EmulatorCrashError as error:
        if request.qemu != AUTO:
            error.hint = "; ".join(filter(None, [f"--qemu {other}", error.hint]))
            raise
        progress.say(f"{error}: trying again with QEMU {other}", level="warning")
        retry_after_crash(dataclasses.replace(request, qemu=other), mode, attempt, progress)


def _plan(
    request: Demo | Build,
    engine: Engine,
    targets: tuple[str, ...],
    who: Caller,
    progress: Progress,
    *,
    alone: bool = False,
) -> Plan:
    """Measure the host and make the plan; entries of dead runs are removed first.

    `alone`: builders on other machines were lost, and cannot be planned with.
    """
    private = request.emulation in {"auto", "private"}
    facts = measure(engine, targets, who.out_kib, private=private)
    plan = make_plan(request, facts, alone=alone)
    if not plan.host or request.dry_run:
        return plan
    # The emulator in use may be the host's own, or a dead or living run's: find out.
    lent = repair_if_harmless(engine, progress)
    facts = measure(engine, targets, who.out_kib, private=private)
    return make_plan(request, dataclasses.replace(facts, lent=lent), alone=alone)


def _plan_alone(
    request: Demo | Build,
    engine: Engine,
    targets: tuple[str, ...],
    who: Caller,
    progress: Progress,
    lost: BuilderError,
) -> Plan:
    """Return a plan that emulates what lost builders were for, as --emulation says.

    Raises `lost` where emulation is not possible or not wanted.
    """
    progress.to("look", "looking for another way than the builders")
    try:
        plan = _plan(request, engine, targets, who, progress, alone=True)
    except EmulationError as error:
        lost.hint = f"{lost.hint}; an emulator is no way out: {error}"
        raise lost from error
    progress.say(f"{lost}: going on with {plan.mode} emulation: {plan.reason}", level="warning")
    return plan


def _image_tag(qemu: str) -> str:
    """Return the setup image's tag for `--qemu`; empty for the default version."""
    return "" if qemu in {AUTO, ladder.rungs()[0]} else qemu
