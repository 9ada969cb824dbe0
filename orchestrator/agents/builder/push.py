"""Agent push: copies what runs have built to a binary cache, signed.

It has a container of its own, in which no build ever ran: it may read the caller's keys. Its
argument is a JSON object; `Order` has the fields.
"""

import dataclasses
import os
import pathlib
import re
import sys
import urllib.parse

from orchestrator.agents import events
from orchestrator.agents.builder import collect, own_cache
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command
from orchestrator.shared.json_reader import from_json, read_json
from orchestrator.shared.push import (
    CREDENTIALS,
    KEY_NAME,
    KEYS,
    OWN,
    OWN_FOLDER,
    SIGN_KEY,
    Order,
)
from orchestrator.shared.run import this_run
from orchestrator.shared.text import public

#: Nix' line about what a command copies.
COPIES = re.compile(r"copying (\d+) paths")


def main() -> None:
    """Run `push` as the main function of its container."""
    run_agent("push", push)


def push() -> None:
    """Do what the first argument asks for."""
    order = from_json(Order, read_json(sys.argv[1], "order"), "order")
    os.environ["NIX_CONFIG"] = "experimental-features = nix-command\nbuild-users-group =\n"
    keys = this_run().folder / KEYS
    {"copy": copy, "key": make_key, "info": tell}[order.action](order, keys)


def copy(order: Order, keys: pathlib.Path) -> None:
    """Copy the closures of the paths to the cache; `keys` is the folder with the caller's keys."""
    if order.url == OWN:
        OWN_FOLDER.mkdir(parents=True, exist_ok=True)  # the server wants a folder, if an empty one
    paths = [*order.paths] or [os.fspath(root.readlink()) for root in collect.roots()]
    if not paths:
        events.emit("pushed", message="there is nothing to copy: no result is kept", count=0)
        return
    with collect.in_use():
        said = _nix(["copy", "--to", target(order.url, keys), *paths], order.url)
    count = sum(int(number) for number in COPIES.findall(said))
    where = "this engine's cache" if order.url == OWN else public(order.url)
    what = f"{count} store paths" if count != 1 else "one store path"
    text = f"{what} copied to {where}" if count else f"{where} has everything"
    events.emit("pushed", message=text, count=count)


def target(url: str, keys: pathlib.Path) -> str:
    """Return Nix' URL of the cache, with the place of its key; tell Nix of the password, if any."""
    if url == OWN:
        url = f"file://{OWN_FOLDER}"
    elif (keys / CREDENTIALS).exists():
        os.environ["NIX_CONFIG"] += f"netrc-file = {keys / CREDENTIALS}\n"
    more = {"secret-key": str(keys / SIGN_KEY)}
    # Nix' own default, xz, takes ten times as long for a tenth less.
    more |= {} if "compression=" in url else {"compression": "zstd"}
    return f"{url}{'&' if '?' in url else '?'}{urllib.parse.urlencode(more, safe='/')}"


def make_key(_order: Order, keys: pathlib.Path) -> None:
    """Make a key for this engine's own cache, as a file that the orchestrator takes over."""
    words = ["nix", "key", "generate-secret", "--key-name", KEY_NAME]
    made = command.run(words, fails=AgentError).stdout
    place = keys / SIGN_KEY
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(made)
    events.emit("key", message=None)


def tell(_order: Order, _keys: pathlib.Path) -> None:
    """Report how many paths and bytes this engine's own cache has."""
    events.emit("cache", message=None, **dataclasses.asdict(own_cache.content()))


def _nix(words: list[str], url: str) -> str:
    """Run Nix; return its stderr. Raises `AgentError`, which never names a key's place."""
    done = command.run(["nix", *words], check=False)
    said = done.stderr.decode(errors="replace")
    if done.code == 0:
        return said
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    reason = (errors or lines or [f"exit code {done.code}"])[-1].partition("?")[0]
    raise AgentError(f"{public(url)}: {reason}", detail="\n".join(lines[-20:]), kind="push")


if __name__ == "__main__":
    main()
