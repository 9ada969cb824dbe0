"""Builders on other machines that the command line or an appliance.toml names."""

import dataclasses
import os
import pathlib
import typing

from orchestrator.ask.orders import Orders
from orchestrator.ask.parser import Parser, caller_path
from orchestrator.ask.request import Appliance, Caller, ImageRequest
from orchestrator.shared.builders import Builder, LineError, read_line
from orchestrator.shared.errors import UsageError


def add_builders_option(parser: Parser) -> None:
    """Add the option that names builders."""
    parser.add_argument(
        "--builders",
        action="append",
        default=[],
        metavar="LINE|@FILE",
        help="build on another machine, too: 'ssh-ng://USER@HOST SYSTEM KEY JOBS SPEED FEATURES -"
        " HOSTKEY', as in /etc/nix/machines (repeatable)",
    )


def read_builders(
    given: list[str], appliance: Appliance | None, who: Caller
) -> tuple[Builder, ...]:
    """Return the builders of the options `given`, and those of the appliance.toml.

    run.sh has put the lines into `who.builders`. A builder's `key` becomes an absolute path on the
    caller's host. A builder of an option counts, not that of the appliance.toml with its address.
    Raises `UsageError`.
    """
    texts = [(who.builders, "--builders")] if given else []
    if appliance and appliance.blueprint.builders:
        lines = "\n".join(appliance.blueprint.builders)
        texts.append((f"@{appliance.path.parent}/\n{lines}", appliance.path.name))
    found: dict[str, Builder] = {}
    for text, where in texts:
        named: dict[str, Builder] = {}
        for one in _read(text, where, who):
            if named.setdefault(one.uri, one) != one:
                raise UsageError(
                    f"{where}: {one.uri} has two lines that differ",
                    hint="one line has all its systems: x86_64-linux,aarch64-linux",
                )
        found = {**found, **{uri: one for uri, one in named.items() if uri not in found}}
    if given and not found:
        raise UsageError("--builders: there is no builder", hint="docs/how-to/worker.md")
    return tuple(found.values())


def _read(text: str, where: str, who: Caller) -> typing.Iterator[Builder]:
    folder = who.cwd
    for line in text.splitlines():
        if line.startswith("@"):
            folder = pathlib.PurePosixPath(line.removeprefix("@"))
            continue
        for part in line.split(";"):
            words = part.partition("#")[0].strip()
            if not words:
                continue
            try:
                one = read_line(words)
            except LineError as error:
                raise UsageError(f"{where}: {error}", hint=error.hint) from error
            below = who.home / one.key[2:] if one.key.startswith("~/") else folder / one.key
            yield dataclasses.replace(one, key=os.fspath(caller_path(os.fspath(below), who)))


def builders_orders(request: ImageRequest) -> Orders:
    """Return the orders to send the builders' SSH keys; a dry run needs none."""
    if request.dry_run:
        return []
    keys = dict.fromkeys(one.key for one in request.builders)
    return [["send", "--builders", key] for key in keys]
