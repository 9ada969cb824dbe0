"""Orders to run.sh: what has to be done on the caller's side, which alone sees the caller's files.

run.sh calls the orchestrator twice: `prepare ARGS...` checks the arguments and prints its orders;
then the same arguments again do the work.
"""

import os
import shlex

from orchestrator.ask.request import Caller, ImageRequest

#: A call of one of run.sh's own functions, word for word.
Order = list[str]
Orders = list[Order]

#: The work reads and writes the caller's terminal.
TERMINAL: Order = ["terminal"]


def script(orders: Orders, who: Caller) -> str:
    """Orders as a POSIX shell reads them; the caller's CA bundle is sent for every verb."""
    bundle = [["send", "SSL_CERT_FILE", who.ca_bundle]] if who.ca_bundle else []
    return "".join(f"{shlex.join(order)}\n" for order in [*orders, *bundle])


def image_orders(request: ImageRequest) -> Orders:
    """What all verbs that make images need of the caller's side."""
    orders = [] if request.dry_run else [["out_dir", os.fspath(request.out)]]
    orders += [["send", "--inject", one.source] for one in request.image.injections]
    named = {
        "--stamp": request.image.stamp,
        "--wifi-password-file": request.image.wifi_password_file,
        "--sign": os.fspath(request.sign) if request.sign else "",
    }
    return orders + [["send", option, path] for option, path in named.items() if path]
