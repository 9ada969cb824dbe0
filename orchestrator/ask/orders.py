"""Orders to run.sh: what has to be done on the caller's side, which alone sees the caller's files.

run.sh calls the orchestrator twice: `prepare ARGS...` checks the arguments and prints its orders;
then the same arguments again do the work.

An order is a word alone, or it has an option and a path. run.sh (caller/orders.sh) refuses all that
its own command line does not name, so each path is one that `caller_path` has made of that option's
value, or of the verb's argument; and such a path has no control characters.
"""

import os

from orchestrator.ask.request import Caller, ImageRequest

#: The name of what run.sh can do, and what it needs for that.
Order = list[str]
Orders = list[Order]

#: The work reads and writes the caller's terminal.
TERMINAL: Order = ["terminal"]

#: All is done: help was asked for, and told.
NOTHING: Order = ["nothing"]


def as_text(orders: Orders, who: Caller) -> str:
    """An order a line, its words apart by tabs; the caller's CA bundle is sent for every verb."""
    bundle = [["send_bundle"]] if who.ca_bundle else []
    return "".join("\t".join(order) + "\n" for order in [*orders, *bundle])


def image_orders(request: ImageRequest) -> Orders:
    """What all verbs that make images need of the caller's side."""
    orders = [] if request.dry_run else [["out_dir", "--out", os.fspath(request.out)]]
    orders += [["send", "--inject", one.source] for one in request.image.injections]
    named = {
        "--stamp": request.image.stamp,
        "--wifi-password-file": request.image.wifi_password_file,
        "--sign": os.fspath(request.sign) if request.sign else "",
    }
    return orders + [["send", option, path] for option, path in named.items() if path]
