"""The command line as verbs see it: requests, and the orders that run.sh gets for them."""

import dataclasses
import pathlib
import subprocess

from orchestrator.ask.orders import Orders, script
from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.verbs import registry
from orchestrator.verbs.boot import Boot
from tests.unit.requests import BUILD, CALLER, DEMO

BOOT = Boot(
    image=pathlib.PurePosixPath("/x"),
    system="",
    firmware="",
    identity=None,
    user="root",
    seed=None,
    grow=0,
    command="",
    test=False,
    print_command=False,
    boot_timeout=300.0,
    log_format="auto",
)

#: The functions of run.sh that orders may call.
FUNCTIONS = (
    "out_dir",
    "out_locks",
    "send",
    "send_keys",
    "send_result",
    "send_tree",
    "terminal",
    "then_boot",
)


def build(**changes: object) -> Build:
    return dataclasses.replace(BUILD, **changes)  # type: ignore[arg-type]


def demo(**changes: object) -> Demo:
    return dataclasses.replace(DEMO, **changes)  # type: ignore[arg-type]


def ask(argv: list[str], who: Caller = CALLER) -> object:
    """The request of the command line `argv`."""
    verb, words = registry.find(argv)
    return verb.ask(words, who)


def orders(verb: str, request: object) -> Orders:
    """What run.sh must do for `request`."""
    found: Orders = registry.verb(verb).orders(request)
    return found


def obeyed(verb: str, request: object, who: Caller = CALLER) -> list[list[str]]:
    """The calls that a POSIX shell makes of the orders for `request`, which it gets as run.sh does.

    Out of a substitution, by eval. Its functions print what they were called with.
    """
    functions = "".join(f"{name}() {{ printf '%s\\0' {name} \"$@\" ';'; }}\n" for name in FUNCTIONS)
    program = f'{functions}orders=$(cat)\neval "$orders"\n'
    given = script(orders(verb, request), who).encode()
    done = subprocess.run(["sh", "-euc", program], input=given, capture_output=True, check=True)
    assert done.stderr == b""
    words = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    calls: list[list[str]] = [[]]
    for word in words:
        if word == ";":
            calls.append([])
        else:
            calls[-1].append(word)
    return calls[:-1]
