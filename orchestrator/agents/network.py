"""Checks whether a server answers at an address."""

import http.client
import socket
import urllib.error
import urllib.parse
import urllib.request

#: Port of each URL scheme whose server can be connected to.
PORTS = {"http": 80, "https": 443}


def problem(url: str, seconds: float, *, found: bool) -> str:
    """Send HEAD to `url`, wait at most `seconds`; return "" if a server answers, else why not.

    With `found`, an HTTP error status is a problem, too.
    """
    try:
        # Ruff's rule S310 is about URL schemes: these addresses come from apt, or were checked
        # before.
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310
        with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        return f"status {error.code}" if found else ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error))


def no_connection(url: str, seconds: float) -> str:
    """Connect to the server of `url`, wait at most `seconds`; return "" if it works, else why not.

    An address of another scheme than http and https has no server: returns "".
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        return ""
    try:
        with socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), seconds):
            return ""
    except (OSError, ValueError) as error:
        return f"{parts.hostname}: {getattr(error, 'strerror', None) or error}"
