"""Debian's security tracker, asked on behalf of the orchestrator, which has no network.

`python3 -m orchestrator.agents.advisories URL SOURCE...` prints JSON: `known`, the part of the
tracker's document that is about these source packages, or `problem`, why there is none.
"""

import http.client
import json
import sys
import typing
import urllib.request

#: Longest time in seconds that the tracker's server may stay silent.
STALL_SECONDS = 60


def ask(url: str, sources: list[str]) -> dict[str, typing.Any]:
    """What the tracker's document at `url` has about `sources`, as JSON."""
    try:
        request = urllib.request.Request(url)  # noqa: S310 - its scheme was checked before
        with urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer:  # noqa: S310
            document = json.load(answer)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return {"problem": str(getattr(error, "reason", "") or error)}
    if not isinstance(document, dict):
        return {"problem": "the answer is not the tracker's document"}
    return {"known": {name: document[name] for name in sources if name in document}}


if __name__ == "__main__":
    json.dump(ask(sys.argv[1], sys.argv[2:]), sys.stdout)
