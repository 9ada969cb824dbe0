"""Agent push: copies what runs have built to a binary cache, signed.

It has a container of its own, in which no build ever ran: it may read the caller's keys. Its
argument is a JSON object; `Order` has the fields.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import sys
import urllib.parse
from collections.abc import Callable, Iterator

from orchestrator.agents import events
from orchestrator.agents.builder import collect, own_cache, s3, ssh
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared import command
from orchestrator.shared.builders import read_address
from orchestrator.shared.json_reader import from_json, read_json
from orchestrator.shared.push import (
    CA_BUNDLE,
    CREDENTIALS,
    HOST_KEY,
    KEY_NAME,
    KEYS,
    OWN,
    OWN_FOLDER,
    SIGN_KEY,
    Order,
    settings,
)
from orchestrator.shared.run import this_run
from orchestrator.shared.text import public

#: Nix' line about what a command copies.
COPIES = re.compile("copying ([0-9]{1,9}) paths")


def main() -> None:
    """Run `push` as the main function of its container."""
    run_agent("push", push)


def push() -> None:
    """Do what the first argument asks for."""
    order = from_json(Order, read_json(sys.argv[1], "order"), "order")
    os.environ["NIX_CONFIG"] = "experimental-features = nix-command\nbuild-users-group =\n"
    keys = this_run().folder / KEYS
    {"copy": copy, "key": make_key, "info": tell}[order.action](order, keys)


@dataclasses.dataclass(frozen=True)
class Target:
    """Where Nix copies to: the URL for Nix, variables for it, and words for what it says.

    `signs` tells that Nix signs what it copies there; else the store's paths must have signatures.
    """

    url: str
    variables: dict[str, str] = dataclasses.field(default_factory=dict)
    why: Callable[[str], str] = lambda said: last_error(said)
    signs: bool = True


def copy(order: Order, keys: pathlib.Path) -> None:
    """Copy the closures of the paths to the cache; `keys` is the folder with the caller's keys."""
    if order.url == OWN:
        OWN_FOLDER.mkdir(parents=True, exist_ok=True)  # the server wants a folder, if an empty one
    with target(order.url, keys) as found, collect.in_use():
        paths = [*order.paths] or [os.fspath(root.readlink()) for root in collect.roots()]
        if not paths:
            events.emit("pushed", message="there is nothing to copy: no result is kept", count=0)
            return
        if not found.signs:
            signing = ["store", "sign", "--recursive", "--key-file", os.fspath(keys / SIGN_KEY)]
            _nix([*signing, *paths], order.url, found)
        # A machine checks signatures itself, unless it trusts the user who sends.
        checks = [] if found.signs else ["--no-check-sigs"]
        said = _nix(["copy", *checks, "--to", found.url, *paths], order.url, found)
    count = sum(int(number) for number in COPIES.findall(said))
    where = "this engine's cache" if order.url == OWN else public(order.url)
    what = f"{count} store paths" if count != 1 else "one store path"
    text = f"{what} copied to {where}" if count else f"{where} has everything"
    events.emit("pushed", message=text, count=count)


@contextlib.contextmanager
def target(url: str, keys: pathlib.Path) -> Iterator[Target]:
    """Yield the target at `url`, which may be reached while the context lasts.

    Raises `AgentError` if the given credentials cannot be used, or the machine is unknown.
    """
    credentials = keys / CREDENTIALS
    variables = {}
    if (bundle := keys / CA_BUNDLE).exists():
        names = ("NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        variables = dict.fromkeys(names, os.fspath(bundle))
        os.environ.update(variables)  # requests, in this process, reads them, too
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme == "ssh-ng":
        yield _machine(url, keys)
    elif scheme == "s3":
        bucket = s3.find(url, credentials, keys)
        with s3.served(bucket) as address:
            told = {key: value for key, value in settings(url).items() if key == "compression"}
            # Nix' proxies serve other machines, not this address.
            yield Target(
                _with_key(f"{address}?{urllib.parse.urlencode(told)}", keys),
                {"no_proxy": "127.0.0.1"},
                lambda said: bucket.refusal or last_error(said),
            )
    else:
        if credentials.exists():
            os.environ["NIX_CONFIG"] += f"netrc-file = {credentials}\n"
        yield Target(_with_key(f"file://{OWN_FOLDER}" if url == OWN else url, keys))


def _with_key(url: str, keys: pathlib.Path) -> str:
    """Return the URL of a cache with the place of the key that signs."""
    more = {"secret-key": os.fspath(keys / SIGN_KEY)}
    # Nix' own default, xz, takes ten times as long for a tenth less.
    more |= {} if "compression=" in url else {"compression": "zstd"}
    bare = url.rstrip("?")
    return f"{bare}{'&' if '?' in bare else '?'}{urllib.parse.urlencode(more, safe='/')}"


def _machine(url: str, keys: pathlib.Path) -> Target:
    """Return the store of the machine at `url`; ssh goes to none whose host key is not in it."""
    uri, given = url.partition("?")[0], settings(url)
    machine = read_address(uri, given.get(HOST_KEY, ""))
    ssh.write_settings(keys, (machine,))
    (keys / CREDENTIALS).chmod(0o600)
    return Target(
        f"{uri}?{urllib.parse.urlencode({'ssh-key': os.fspath(keys / CREDENTIALS)}, safe='/')}",
        {"NIX_SSHOPTS": ssh.options(keys)},
        lambda said: ssh.why(said, machine) if ssh.is_told(said) else last_error(said),
        signs=False,
    )


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


def _nix(words: list[str], url: str, found: Target) -> str:
    """Run Nix; return its stderr. Raises `AgentError`, which never names a key's place."""
    done = command.run(["nix", *words], variables=found.variables, check=False)
    said = done.stderr.decode(errors="replace")
    if done.code == 0:
        return said
    reason = found.why(said) or done.last
    detail = "\n".join([line.strip() for line in said.splitlines() if line.strip()][-20:])
    raise AgentError(f"{public(url)}: {reason}", detail=detail, kind="push")


def last_error(said: str) -> str:
    """Return Nix' last error without the settings of a URL, which name a key's place."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].partition("?")[0]


if __name__ == "__main__":
    main()
