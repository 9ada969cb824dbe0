"""builder: waits until foreign binaries run here, builds with Nix, assembles the image.

An ordinary user throughout.
"""

import dataclasses
import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import typing

import tenacity

from orchestrator.agents import canary, demo, events
from orchestrator.agents.artifact import Artifact
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.agents.imaging import make_artifact
from orchestrator.agents.lease import PORT, Holder
from orchestrator.agents.nixlog import NixLog, plain
from orchestrator.agents.run import TOKEN_FILE, Run, this_run
from orchestrator.agents.systems import this_system
from orchestrator.image.filesystem import FilesystemError
from orchestrator.image.late import one_device, read_devices
from orchestrator.image.layout import LayoutError
from orchestrator.image.options import ImageOptions, apply
from orchestrator.image.spec import SpecError, read_spec
from orchestrator.image.tree import TreeError

CLEANUP_ADDRESS = ("cleanup", PORT)

#: A sign of life at least this often (seconds), and not much more often.
LIFE_SECONDS = 1.0
PROGRESS_SECONDS = 0.2

#: Exit code of a process that the kernel killed, as shells and Nix tell it: 128 + SIGKILL.
KILLED = 137


@dataclasses.dataclass(frozen=True)
class Request:
    """What the orchestrator wants built (`request.json` in the run's folder).

    The defaults are `docker compose up`'s.
    """

    emulated: bool = True
    format: str = "raw-efi"
    root_fs: str = "ext4"
    authorized_keys: tuple[str, ...] = ()
    locked: bool = False
    wait_seconds: float = 60
    ca_bundle: str = ""
    options: ImageOptions = dataclasses.field(default_factory=ImageOptions)

    @classmethod
    def read(cls, run: Run) -> typing.Self:
        """Read the request of `run`.

        Without one, build the demo as compose.yaml's environment says.
        """
        try:
            document = json.loads((run.folder / "request.json").read_text())
        except FileNotFoundError:
            return cls(emulated=run.system != this_system())
        keys = tuple(document["authorized_keys"])
        options = ImageOptions.from_json(document["options"])
        return cls(**{**document, "authorized_keys": keys, "options": options})


def main() -> None:
    """Do the run's whole work."""
    run_agent("builder", build)


def build() -> None:
    """Wait, build, unlock, assemble, hand over."""
    run = this_run()
    request = Request.read(run)
    run.folder.mkdir(parents=True, exist_ok=True)
    if request.ca_bundle:  # for Nix, for Python and, in `debian`, for apt
        os.environ["NIX_SSL_CERT_FILE"] = os.environ["SSL_CERT_FILE"] = request.ca_bundle
    holder = None
    if request.emulated:
        holder = Holder(CLEANUP_ADDRESS, read_token(run.start_seconds), run.start_seconds)
        events.emit("lease-held", message="cleanup waits for this builder")
    began = time.monotonic()
    wait_for_canary(run, request)
    waited = time.monotonic()
    spec_path = realise(run, request)
    built = time.monotonic()
    if holder:  # foreign binaries are not needed any more: assembly is native
        holder.unlock()
        events.emit("unlocked", message="cleanup is unlocked")
    images = assemble_images(run, spec_path, request.options)
    events.emit(
        "images",
        message=hand_over(run, images),
        images=[dataclasses.asdict(image) for image in images],
        seconds={
            "wait": round(waited - began, 3),
            "nix": round(built - waited, 3),
            "assemble": round(time.monotonic() - built, 3),
        },
    )


def read_token(seconds: float) -> str:
    """Wait for cleanup's token and read it."""
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(OSError),
        wait=tenacity.wait_fixed(0.05),
        stop=tenacity.stop_after_delay(seconds),
        retry_error_callback=lambda _: None,
    ):
        with attempt:
            return TOKEN_FILE.read_text()
    raise AgentError(f"cleanup was not ready after {seconds:.0f} s", kind="cleanup")


def wait_for_canary(run: Run, request: Request) -> None:
    """Wait until a program of the target's system runs in this container.

    The error has the last cause.
    """
    outcome = canary.run(run.system, run.folder)
    deadline = time.monotonic() + request.wait_seconds
    told = 0.0
    while not outcome.runs:
        now = time.monotonic()
        if now > deadline:
            raise AgentError(
                f"{run.system} programs do not run in the builder"
                f" after {request.wait_seconds:.0f} s: {outcome.cause}",
                hint="--emulation-timeout gives it longer",
                kind="emulation",
            )
        if now - told >= LIFE_SECONDS:
            events.emit(
                "waiting", message=f"waiting for {run.system} programs to run: {outcome.cause}"
            )
            told = now
        time.sleep(0.05)
        outcome = canary.run(run.system, run.folder)
    events.emit("canary", message=f"{run.system} programs run here", system=run.system)


def realise(run: Run, request: Request) -> pathlib.Path:
    """Build the image spec with Nix, and with it all that the image needs; returns the spec's path.

    Packages are first looked for where they are pinned; if that fails on the network's side, where
    they can be had now.
    """
    inputs = demo.pinned(run.system, request.format, request.root_fs, request.authorized_keys)
    try:
        return nix_build(run, request, inputs)
    except AgentError as error:
        if error.kind != "network":
            raise
        events.emit("retry", level="warning", message=f"{error}: looking for it elsewhere")
        return nix_build(run, request, demo.located(inputs, locked=request.locked))


def nix_build(run: Run, request: Request, inputs: demo.DemoInputs) -> pathlib.Path:
    """One `nix build` of the demo.

    Raises `AgentError` with the derivation's name and the end of its log.
    """
    inputs_file, log_file = run.folder / "inputs.json", run.folder / "nix.log"
    inputs_file.write_text(inputs.to_json())
    command = [
        *("nix", "build", "--log-format", "internal-json", "--print-out-paths", "--no-link"),
        *(
            "--file",
            os.fspath(demo.EXPRESSION),
            "--argstr",
            "inputs",
            os.fspath(inputs_file),
            "imageSpec",
        ),
    ]
    environment = {**os.environ, "NIX_CONFIG": nix_config(run, request)}
    with (
        log_file.open("w") as text,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
        ) as process,
    ):
        assert process.stderr is not None and process.stdout is not None
        log = NixLog(text)
        told, last = 0.0, ""
        for line in process.stderr:
            log.feed(line.rstrip("\n"))
            now = time.monotonic()
            if now - told >= PROGRESS_SECONDS and log.current != last:
                events.emit(
                    "nix", message=None, done=log.done, expected=log.expected, current=log.current
                )
                told, last = now, log.current
        output = process.stdout.read().strip()
    if process.returncode != 0:
        raise _failure(log, process.returncode)
    return pathlib.Path(output)


def nix_config(run: Run, request: Request) -> str:
    """Settings from what was measured.

    Foreign programs have been seen to run, so Nix may be told.
    """
    lines = {
        "experimental-features": "nix-command",
        "substituters": "",
        "sandbox": "false",  # needs user namespaces, which Docker's default seccomp profile forbids
        "build-users-group": "",
        "max-jobs": "auto",
        "build-dir": "/nix/var/nix/builds",  # on the volume: a container's /tmp may be small
        "connect-timeout": "10",
        "download-attempts": "2",
    }
    if request.emulated or run.system != this_system():
        lines["extra-platforms"] = run.system
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def assemble_images(run: Run, spec_path: pathlib.Path, options: ImageOptions) -> list[Artifact]:
    """Assemble what was asked for: one image, or one for each row of the `--stamp` file."""
    folder = run.folder / "image"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        spec = apply(options, read_spec(spec_path.read_text()))
        if options.stamp:
            devices = read_devices(
                pathlib.Path(options.stamp).read_text("utf-8-sig", errors="replace")
            )
        else:
            devices = [one_device(options)]
        artifacts = []
        for device in devices:
            name = f"{spec.name}-{device.host}" if options.stamp else spec.name
            own = dataclasses.replace(spec, name=name)
            artifacts.append(make_artifact(run, folder, own, options, device))
    except (SpecError, TreeError, LayoutError, FilesystemError) as error:
        full = "No space left on device" in str(error)
        raise AgentError(str(error), kind="disk" if full else "assembly") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise AgentError("the disk of Docker's data is full", kind="disk") from error
    return artifacts


def hand_over(run: Run, images: list[Artifact]) -> str:
    """What a person who runs `docker compose up` needs to know to get at the images."""
    names = ", ".join(pathlib.Path(image.path).name for image in images)
    if run.id == "compose":
        return f"{names}: done; copy out with: docker compose cp builder:{run.folder}/image ."
    return f"{names}: done"


def _failure(log: NixLog, code: int) -> AgentError:
    text = "\n".join([*log.errors, log.tail]).strip()
    if match := re.search(r"unable to download '([^']+)': (.*)", text):
        return AgentError(f"{match[1]} cannot be fetched: {plain(match[2])}", kind="network")
    if "No space left on device" in text:
        return AgentError("the disk of Docker's data is full", detail=text, kind="disk")
    if log.failed:
        return AgentError(f"derivation {log.failed} failed", detail=log.tail or text, kind="build")
    if code in (KILLED, -9):
        return AgentError("Nix was killed: out of memory?", kind="build")
    return AgentError("Nix failed", detail=text, kind="build")


if __name__ == "__main__":
    main()
