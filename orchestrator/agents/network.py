"""Whether somebody answers at an address."""

import http.client
import urllib.error
import urllib.request


def problem(url: str, seconds: float, *, found: bool) -> str:
    """Ask `url` by HEAD for as long as `seconds`: empty if somebody answers, else why not.

    With `found` what is asked for must be there, too: an error's status is a problem then.
    """
    try:
        # Addresses are apt's own, or their schemes were checked before.
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310
        with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        return f"status {error.code}" if found else ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error))
