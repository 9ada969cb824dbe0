"""Options that copy what a run has built to a binary cache."""

import argparse
import os
import urllib.parse

from orchestrator.ask.parser import Parser, caller_path
from orchestrator.ask.request import Caller
from orchestrator.shared.builders import LineError, read_address
from orchestrator.shared.errors import UsageError
from orchestrator.shared.push import BUCKET, FORBIDDEN, HOST_KEY, KINDS, OWN, Push, settings
from orchestrator.shared.text import public

#: The address of a store on the computer itself, by a path that the builder does not see.
FILE = "file"


def add_push_options(parser: Parser) -> None:
    """Add the options to `parser`."""
    group = parser.add_argument_group("binary cache")
    group.add_argument(
        "--push",
        metavar="URL",
        help="copy what was built to a binary cache (http:, https:, s3:) or another machine's store"
        " (ssh-ng:); file: is the cache of ./run.sh cache",
    )
    group.add_argument(
        "--sign-key", metavar="FILE", help="sign it with this key (nix key generate-secret)"
    )
    group.add_argument(
        "--push-credentials",
        metavar="FILE",
        help=f"file with what the cache asks for: {_credentials()}",
    )


def _credentials() -> str:
    """Return what --push-credentials names for each scheme."""
    schemes: dict[str, list[str]] = {}
    for scheme, kind in KINDS.items():
        schemes.setdefault(kind.credentials, []).append(scheme)
    return "; ".join(f"{what} for {' and '.join(some)}" for what, some in schemes.items())


def push_options(found: argparse.Namespace, who: Caller) -> Push | None:
    """Convert parsed arguments; raises `UsageError`."""
    if found.push is None:
        for option, value in (
            ("--sign-key", found.sign_key),
            ("--push-credentials", found.push_credentials),
        ):
            if value is not None:
                raise UsageError(f"{option}: only with --push URL", hint=found.help_of)
        return None
    _check(found.push, found.push_credentials, found.help_of)
    if found.push != OWN and found.sign_key is None:
        raise UsageError(
            f"--push {found.push}: without a signature nobody would take it from there",
            hint="--sign-key FILE; nix key generate-secret --key-name NAME makes such a file",
        )
    if found.push == OWN and (found.sign_key or found.push_credentials):
        raise UsageError(
            f"--push {OWN} takes no other key than the cache's own", hint="./run.sh cache info"
        )
    paths = (found.sign_key, found.push_credentials)
    return Push(
        found.push, *("" if path is None else os.fspath(caller_path(path, who)) for path in paths)
    )


def _check(url: str, credentials: str | None, help_of: str) -> None:
    """Raise `UsageError` unless `url` is of a kind that Nix copies to, without secrets."""
    parts = urllib.parse.urlsplit(url)
    if url == OWN:
        return
    if parts.scheme == FILE:
        raise UsageError(
            f"--push {url}: no folder of this computer is seen there",
            hint=f"--push {OWN} is the cache of this engine, which ./run.sh cache serve serves",
        )
    if parts.scheme not in KINDS or not parts.netloc:
        raise UsageError(
            f"--push {public(url)}: not the URL of a binary cache that can be written to",
            hint=help_of,
        )
    kind, given = KINDS[parts.scheme], settings(url)
    if wrong := sorted(FORBIDDEN & given.keys()):
        raise UsageError(
            f"--push: the setting {wrong[0]} names a file that is not sent",
            hint="--sign-key FILE and --push-credentials FILE",
        )
    if parts.password or (parts.username and parts.scheme != "ssh-ng"):
        raise UsageError(
            "--push: a user name or a password in the URL would be seen in process lists",
            hint="--push-credentials FILE",
        )
    if kind.settings is not None and (wrong := sorted(given.keys() - kind.settings)):
        raise UsageError(
            f"--push {parts.scheme}: the setting {wrong[0]!r} is not known",
            hint=f"it takes {', '.join(sorted(kind.settings))}",
        )
    if kind.needed and credentials is None:
        raise UsageError(
            f"--push {public(url)}: nobody may write there without credentials",
            hint=f"--push-credentials FILE: {kind.credentials}",
        )
    if parts.scheme == "s3":
        _check_bucket(parts.netloc, given)
    elif parts.scheme == "ssh-ng":
        _check_machine(url, given)


def _check_bucket(name: str, given: dict[str, str]) -> None:
    """Raise `UsageError` for a bucket's `name` or settings that S3 does not have."""
    if not BUCKET.fullmatch(name):
        raise UsageError(
            f"--push: {name!r} is not the name of a bucket",
            hint="s3://BUCKET?region=REGION, or with endpoint=HOST for a server that is not AWS'",
        )
    if given.get("scheme", "https") not in {"http", "https"}:
        raise UsageError("--push: the setting scheme is http or https", hint="leave it out")


def _check_machine(url: str, given: dict[str, str]) -> None:
    """Raise `UsageError` for an address or a host key that no machine has."""
    try:
        read_address(url.partition("?")[0], given.get(HOST_KEY, ""))
    except LineError as error:
        raise UsageError(f"--push: {error}", hint=error.hint) from error
