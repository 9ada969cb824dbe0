"""Hides secrets in Nix' words: Nix tells addresses with their passwords, and quotes wrong lines."""

import re
from collections.abc import Callable

from orchestrator.shared.text import public

#: What stands in a secret's place.
HIDDEN = "..."

#: Number of letters from which the value of a word NAME=VALUE is taken for a token.
TOKEN = 6


def hider(lines: str) -> Callable[[str], str]:
    """Return a function that hides the secrets of nix.conf's `lines`, and passwords in any URL."""
    words = sorted(filter(None, map(_secret, lines.split())), key=len, reverse=True)
    if not words:
        return public
    found = re.compile("|".join(map(re.escape, words)))
    return lambda text: public(found.sub(HIDDEN, text))


def _secret(word: str) -> str:
    """Return the secret in a word of nix.conf: of a URL NAME:PASSWORD, of HOST=TOKEN the token.

    GitLab's tokens have their kind before them: HOST=PAT:TOKEN.
    """
    _scheme, is_url, rest = word.partition("://")
    if is_url:
        user = rest.rpartition("@")[0]
        return user if ":" in user else ""
    value = word.partition("=")[2].rpartition(":")[2]
    return value if len(value) >= TOKEN else ""
