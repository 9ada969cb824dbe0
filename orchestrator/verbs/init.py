"""`init`: write an appliance.toml, after a few questions on a terminal."""

import argparse
import dataclasses
import os
import pathlib
import shlex
from collections.abc import Callable, Mapping

from orchestrator.ask import uploads
from orchestrator.ask.orders import Orders
from orchestrator.ask.parser import Parser, caller_path
from orchestrator.ask.request import Caller
from orchestrator.ask.ssh_keys import is_public_key
from orchestrator.blueprint.marks import APPLIANCE, GITHUB
from orchestrator.blueprint.tables import BOARDS, SERVICES, Board, Service, others
from orchestrator.blueprint.writer import PASSWORD, Answers, write
from orchestrator.shared.errors import UsageError
from orchestrator.verbs.registry import Session, Verb

#: Folder of the run's folder with the files that the questions have led to.
ANSWERED = "answered"

#: File beside it with the command that builds the image.
COMMAND = "command"


@dataclasses.dataclass(frozen=True)
class Init:
    """Request: write a file for `answers`, with defaults where they are empty, to `out`.

    With `nix` it is a NixOS module.
    """

    answers: Answers
    out: pathlib.PurePosixPath
    nix: bool


def _parser() -> Parser:
    parser = Parser(
        "init",
        f"Write {APPLIANCE}, which describes an image without Nix. On a terminal it asks for what\n"
        "no option gives; elsewhere nothing is asked. No file is replaced.",
        "Then ./run.sh builds the image.",
        (
            ("init", "ask, and write ./appliance.toml"),
            ("init --board raspberry-pi-4 --host-name kiosk --user ada", "ask only what is left"),
        ),
    )
    parser.add_argument(
        "--board",
        type=_one_of("board", BOARDS),
        choices=sorted(BOARDS),
        metavar="NAME",
        help=f"the machine: {', '.join(sorted(BOARDS))}",
    )
    parser.add_argument("--host-name", default="", metavar="NAME", help="its name (default: nixos)")
    parser.add_argument("--user", default="", metavar="NAME", help="who logs in (default: you)")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="KEY|FILE",
        help="public SSH key, or its file (default: ~/.ssh/*.pub; repeatable)",
    )
    parser.add_argument("--time-zone", default="", metavar="ZONE", help="default: this computer's")
    parser.add_argument("--locale", default="", metavar="NAME", help="de_DE.UTF-8")
    parser.add_argument("--keymap", default="", metavar="NAME", help="de-latin1")
    parser.add_argument("--wifi-ssid", default="", metavar="NAME")
    parser.add_argument("--wifi-country", default="", metavar="XX")
    parser.add_argument("--wifi-password-file", default="", metavar="FILE")
    parser.add_argument(
        "--service",
        action="append",
        default=[],
        type=_one_of("service", SERVICES),
        choices=sorted(SERVICES),
        metavar="NAME",
        help=f"a service that the image runs (repeatable): {', '.join(sorted(SERVICES))}",
    )
    parser.add_argument(
        "--nix", action="store_true", help="write a NixOS module with comments instead"
    )
    parser.add_argument("-o", "--out", metavar="DIR", default=".", help="default: this folder")
    return parser


def _one_of(what: str, rows: Mapping[str, Board] | Mapping[str, Service]) -> Callable[[str], str]:
    """Return a type of arguments: the name of one of `rows`; an error names the likely one."""

    def check(text: str) -> str:
        if text not in rows:
            from orchestrator.blueprint.meant import suggestion

            end = suggestion(text, rows, others(rows))
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}{end}")
        return text

    return check


def _request(found: argparse.Namespace, who: Caller) -> Init:
    out = caller_path(found.out, who)
    answers = Answers(
        board=found.board or "",
        host_name=found.host_name,
        user=found.user,
        keys=tuple(_key(text, out, who) for text in found.key),
        time_zone=found.time_zone,
        locale=found.locale,
        keymap=found.keymap,
        ssid=found.wifi_ssid,
        country=found.wifi_country,
        password_file=_beside(found.wifi_password_file, out, who),
        services=tuple(dict.fromkeys(found.service)),
    )
    _check(answers)
    return Init(answers, out, found.nix)


def _key(text: str, out: pathlib.PurePosixPath, who: Caller) -> str:
    """Return a key, or the name of its file, as the appliance.toml in `out` has it."""
    return text if text.startswith(GITHUB) or is_public_key(text) else _beside(text, out, who)


def _beside(text: str, out: pathlib.PurePosixPath, who: Caller) -> str:
    """Return the path `text`, relative to the working directory, as one relative to `out`."""
    if not text or text.startswith(("/", "~/")):
        return text
    path = os.path.relpath(caller_path(text, who), out)
    return path if path.startswith("../") else f"./{path}"


def _check(answers: Answers) -> None:
    """Raise `UsageError` for a value of an option that the file could not have."""
    given = {
        "--host-name": ("host", answers.host_name),
        "--user": ("user", answers.user),
        "--time-zone": ("zone", answers.time_zone),
        "--locale": ("locale", answers.locale),
        "--keymap": ("keymap", answers.keymap),
        "--wifi-ssid": ("network", answers.ssid),
        "--wifi-country": ("country", answers.country),
    }
    if not any(value for _check, value in given.values()):
        return
    from orchestrator.blueprint import checks

    for option, (check, value) in given.items():
        why = getattr(checks, check)(value) if value else True
        if why is not True:
            raise UsageError(f"{option}: {why}", hint="./run.sh init --help")


def _orders(request: Init) -> Orders:
    return [["out_dir", "--out", os.fspath(request.out)], ["send_keys"], ["ask"]]


def _work(request: Init, session: Session) -> int:
    from orchestrator.docker.workspace import make_shared

    answered = make_shared(session.who.run) / ANSWERED
    if os.isatty(0):
        _ask(request, session.who, answered)
        return 0
    if session.sent:
        session.receive()
    if not answered.exists():
        if not request.answers.board:
            raise UsageError(
                "there is no terminal to ask on: which machine is the image for?",
                hint=f"--board NAME: {', '.join(BOARDS)}",
            )
        _write(request, _with_defaults(request.answers, session.who), session.who, answered)
    _deliver(request, session, answered)
    return 0


def _ask(request: Init, who: Caller, answered: pathlib.Path) -> None:
    """Ask on the terminal, and keep the files for the call that delivers them."""
    # The modules that ask take a second or more to load: nobody waits for them without a sign.
    print("a few questions; Ctrl-C ends them, and nothing is written", flush=True)
    from orchestrator.ask.questions import ask
    from orchestrator.deliver.names import check_absent

    if not request.nix:  # else the file's name depends on the answers
        check_absent([APPLIANCE], request.out, uploads.kept(who))
    known = _with_defaults(request.answers, who, keys=False)
    answers = ask(known, [*_key_files(who), *_agent_keys(who)], is_public_key)
    _write(request, answers, who, answered)


def _with_defaults(answers: Answers, who: Caller, *, keys: bool = True) -> Answers:
    found = tuple(_key_files(who)) or tuple(_agent_keys(who))
    if keys and not (answers.keys or found):
        raise UsageError(
            "no public SSH key was found in ~/.ssh: nobody could log in",
            hint="--key KEY|FILE names one; ssh-keygen -t ed25519 makes one",
        )
    return dataclasses.replace(
        answers,
        host_name=answers.host_name or "nixos",
        user=answers.user or (who.user if who.user != "root" else "") or "nixos",
        keys=answers.keys or (found if keys else ()),
        time_zone=answers.time_zone or _known_zone(who.zone),
    )


def _known_zone(name: str) -> str:
    """Return this computer's time zone, or nothing if the file could not have it."""
    from orchestrator.blueprint import checks

    return name if name and checks.zone(name) is True else ""


def _key_files(who: Caller) -> list[str]:
    folder = uploads.received(who, who.home) / ".ssh"
    return [f"~/.ssh/{file.name}" for file in sorted(folder.glob("*.pub"))]


def _agent_keys(who: Caller) -> list[str]:
    return [line for line in who.agent_keys.splitlines() if is_public_key(line)]


def _write(request: Init, answers: Answers, who: Caller, answered: pathlib.Path) -> None:
    """Write the files to the folder `answered`, once they are known to be right."""
    from orchestrator.blueprint import nix
    from orchestrator.blueprint.reader import read
    from orchestrator.deliver.names import check_absent

    schema = os.path.relpath(who.root / "docs/appliance.schema.json", request.out)
    text = write(answers, schema)
    blueprint = read(text, APPLIANCE, is_public_key)
    files = {APPLIANCE: text}
    here = request.out == who.cwd
    command = [who.program, *([] if here else ["--appliance", os.fspath(request.out / APPLIANCE)])]
    if request.nix:
        sources = nix.key_sources(blueprint)
        keys = {name: _lines(name, who) for name in sources}
        name = answers.host_name
        files = {f"{name}.nix": nix.module(blueprint, name, path=lambda one: one, keys=keys)}
        command = [who.program, "-c", os.fspath(request.out / f"{name}.nix")]
        command += ["-f", BOARDS[answers.board].format]
        command += ["--wifi-ssid", answers.ssid] if answers.ssid else []
        if blueprint.wifi and (file := blueprint.wifi.password_file):
            # shlex quotes ~, and no shell would expand it.
            below = who.home if file.startswith("~/") else request.out
            place = os.path.normpath(below / file.removeprefix("~/"))
            command += ["--wifi-password-file", place]
    if answers.password:
        files[PASSWORD] = f"{answers.password}\n"
    check_absent(files, request.out, uploads.kept(who))
    answered.mkdir()
    for name, content in files.items():
        (answered / name).write_text(content)
    answered.with_name(COMMAND).write_text(shlex.join(command))


def _lines(name: str, who: Caller) -> tuple[str, ...]:
    from orchestrator.ask.ssh_keys import public_keys

    if not name.startswith("~/"):
        raise UsageError(f"--key {name}: --nix writes the key itself", hint="--key KEY")
    file = uploads.received(who, who.home / name.removeprefix("~/"))
    return public_keys(file.read_text("utf-8-sig", errors="replace"), f"--key {name}")


def _deliver(request: Init, session: Session, answered: pathlib.Path) -> None:
    from orchestrator.deliver.stream import Delivery
    from orchestrator.shared.display import Display, Terminal
    from orchestrator.shared.progress import make_progress

    names = sorted(file.name for file in answered.iterdir())
    # With a password among them, only the caller may read the files.
    outgoing = Delivery(answered, session.stream, sparse=False, private=PASSWORD in names)
    for name in names:
        outgoing.send(name)
    outgoing.finish()
    progress = make_progress(Display("plain"), Terminal())
    progress.say(f"{', '.join(names)}: written to {request.out}")
    if PASSWORD in names:
        progress.say(f"{PASSWORD} has the password of your Wi-Fi: keep it out of git")
    progress.say(f"to build the image: {answered.with_name(COMMAND).read_text()}")
    progress.close()


VERB = Verb(
    group="make images",
    shown=(("init", "write an appliance.toml: describe an image without Nix"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
    takes_files=True,
)
