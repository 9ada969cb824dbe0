"""Options that copy what a run has built to a binary cache."""

import argparse
import os
import urllib.parse

from orchestrator.ask.parser import Parser, caller_path
from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError
from orchestrator.shared.push import OWN, Push
from orchestrator.shared.text import public

#: Schemes of binary caches that are written to by HTTP's PUT.
SCHEMES = ("http", "https")

#: Settings of Nix' store URLs that are secrets or name files, which the builder does not have.
FORBIDDEN = frozenset({"secret-key", "secret-keys", "local-nar-cache"})

#: Why other stores of Nix' are no targets.
REFUSED = {
    "s3": "Debian's Nix, which the builder has, is built without S3's authentication",
    "file": "no folder of this computer is seen there",
}


def add_push_options(parser: Parser) -> None:
    """Add the options to `parser`."""
    group = parser.add_argument_group("binary cache")
    group.add_argument(
        "--push",
        metavar="URL",
        help="copy what was built to a binary cache (http:, https:); file: is the one of"
        " ./run.sh cache",
    )
    group.add_argument(
        "--sign-key", metavar="FILE", help="sign it with this key (nix key generate-secret)"
    )
    group.add_argument(
        "--push-credentials",
        metavar="FILE",
        help="file with the cache's user name and password, as netrc(5) describes it",
    )


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
    _check(found.push, found.help_of)
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


def _check(url: str, help_of: str) -> None:
    """Raise `UsageError` unless `url` is of a kind that Nix copies to, without secrets."""
    if url == OWN:
        return
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in REFUSED:
        raise UsageError(
            f"--push {url}: {REFUSED[parts.scheme]}",
            hint=f"--push {OWN} is the cache of this engine, which ./run.sh cache serve serves",
        )
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise UsageError(
            f"--push {public(url)}: not the URL of a binary cache that can be written to",
            hint=help_of,
        )
    settings = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    if wrong := sorted(FORBIDDEN & settings.keys()):
        raise UsageError(
            f"--push: the setting {wrong[0]} names a file that is not sent",
            hint="--sign-key FILE and --push-credentials FILE",
        )
    if parts.username or parts.password:
        raise UsageError(
            "--push: a user name or a password in the URL would be seen in process lists",
            hint="--push-credentials FILE",
        )
