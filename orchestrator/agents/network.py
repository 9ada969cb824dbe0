"""Checks whether a server answers at an address."""

import http.client
import urllib.error
import urllib.request


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
