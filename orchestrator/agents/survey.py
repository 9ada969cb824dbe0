"""Asks the servers that builds need, for `doctor`: the orchestrator has no network.

`python3 -m orchestrator.agents.survey` prints JSON: `answers`, for each of "debian", "nixpkgs" and
"cache" its `url`, the `problem` ("" if the server answers) and `skew`, the seconds by which this
container's clock is ahead of the server's (null if the server does not tell its time).
"""

import concurrent.futures
import email.utils
import http.client
import json
import sys
import time
import typing
import urllib.error
import urllib.request

from orchestrator.agents import debian
from orchestrator.agents.builder.nix_settings import CACHE
from orchestrator.agents.builder.nixos import FORGES
from orchestrator.agents.failure import AgentError

#: Longest time in seconds that a server may stay silent.
SECONDS = 8


def servers() -> dict[str, str]:
    """Return the addresses to ask; Debian's is the one that apt is configured for, or ""."""
    try:
        archive = next(iter(debian.repositories().values()), "")
    except AgentError:
        archive = ""
    return {"debian": archive, "nixpkgs": FORGES["github"], "cache": f"{CACHE}/nix-cache-info"}


def ask(url: str) -> dict[str, typing.Any]:
    """Send HEAD to `url`; any status is an answer."""
    if not url:
        return {"url": url, "problem": "apt has no source", "skew": None}
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - see `servers`
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return {"url": url, "problem": str(getattr(error, "reason", "") or error), "skew": None}
    return {"url": url, "problem": "", "skew": skew(date)}


def skew(date: str | None) -> int | None:
    """Return by how many seconds this clock is ahead of an HTTP date; None without a valid one."""
    try:
        there = email.utils.parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return round(time.time() - there.timestamp())


def survey() -> dict[str, typing.Any]:
    """Ask all servers at once."""
    wanted = servers()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return {"answers": dict(zip(wanted, pool.map(ask, wanted.values()), strict=True))}


if __name__ == "__main__":
    json.dump(survey(), sys.stdout)
