"""Users' public SSH keys, asked of GitHub for the orchestrator, which has no network.

`python3 -m orchestrator.agents.github_keys SERVER NAME...` prints JSON: `keys`, the text that the
server has for each user, or `problem`, why there is none.
"""

import http.client
import json
import sys
import typing
import urllib.error
import urllib.request

#: Longest time in seconds that the server may stay silent.
STALL_SECONDS = 30

#: Most bytes that are read for one user.
MOST = 1 << 20


def ask(server: str, names: list[str]) -> dict[str, typing.Any]:
    """Return the keys of the users `names` at `server` (https://github.com), as JSON."""
    found = {}
    for name in names:
        try:
            request = urllib.request.Request(f"{server}/{name}.keys")  # noqa: S310 - a constant
            with urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer:  # noqa: S310
                found[name] = answer.read(MOST).decode(errors="replace")
        except urllib.error.HTTPError as error:
            why = "has no such user" if error.code == 404 else f"answers with status {error.code}"
            return {"problem": f"{name}: {server} {why}"}
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = str(getattr(error, "reason", "") or error)
            return {"problem": f"{name}: {server} cannot be reached: {why}"}
    return {"keys": found}


if __name__ == "__main__":
    json.dump(ask(sys.argv[1], sys.argv[2:]), sys.stdout)
