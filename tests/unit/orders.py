"""Orders to run.sh for tests: what is asked for, and what run.sh's parts take of it."""

import os
import shlex
import subprocess
import tempfile

from orchestrator.ask.orders import as_text
from orchestrator.ask.request import Caller
from orchestrator.shared.paths import ROOT
from orchestrator.verbs import registry

CALLER = ROOT / "caller"


def asked(argv: list[str], who: Caller) -> str:
    """Return the orders of the command line `argv`, as run.sh gets them."""
    verb, words = registry.find(argv)
    return as_text(verb.orders(verb.ask(words, who)), who)


def words(text: str) -> list[list[str]]:
    """Split the orders in `text` into words."""
    return [line.split("\t") for line in text.split("\n")[:-1]]


def obeyed(text: str, argv: list[str], who: Caller) -> list[list[str]]:
    """Return those orders that run.sh accepts, if called with `argv` in the folder of `who`."""
    (orders,) = each_obeyed([(text, argv)], who)
    return orders


def each_obeyed(calls: list[tuple[str, list[str]]], who: Caller) -> list[list[list[str]]]:
    """Return for each of `calls` (orders, arguments) what `obeyed` returns, from one shell."""
    with tempfile.TemporaryDirectory() as state:
        return _each_obeyed(calls, who, state)


def _each_obeyed(
    calls: list[tuple[str, list[str]]], who: Caller, state: str
) -> list[list[list[str]]]:
    program = f"""
        root={shlex.quote(os.fspath(who.root))} PWD={shlex.quote(os.fspath(who.cwd))}
        ca_bundle={shlex.quote(who.ca_bundle)} nixpkgs={shlex.quote(who.nixpkgs)}
        appliance={shlex.quote(who.appliance)} state={shlex.quote(state)}
        NIXOS_IMAGE_APPLIANCE_TEXT={shlex.quote(who.appliance_text)}
        HOME={shlex.quote(os.fspath(who.home))}
        NIXOS_CONFIG={shlex.quote(who.configuration)} tab=$(printf '\\t')
        . {shlex.quote(os.fspath(CALLER / "orders.sh"))}
        . {shlex.quote(os.fspath(CALLER / "named.sh"))}
        . {shlex.quote(os.fspath(CALLER / "appliance.sh"))}
        . {shlex.quote(os.fspath(CALLER / "builders.sh"))}
        answer() {{
            while read_order; do
                ! may "$order" "$option" "$path" "$@" \\
                    || printf '%s\\0' "$order" "$option" "$path$more" ';'
            done
            printf '.\\0'
        }}
        """
    for text, argv in calls:
        program += f"printf %s {shlex.quote(text)} | {{ exec 4<&0; answer {shlex.join(argv)}; }}\n"
    done = subprocess.run(["sh", "-us"], input=program.encode(), capture_output=True, check=True)
    assert done.stderr == b""
    answers: list[list[list[str]]] = [[]]
    order: list[str] = []
    for word in done.stdout.decode().split("\0")[:-1]:
        if word == ".":
            answers.append([])
        elif word == ";":
            answers[-1].append(order)
            order = []
        elif word:
            order.append(word)
    return answers[:-1]
