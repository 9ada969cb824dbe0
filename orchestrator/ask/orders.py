"""Orders to run.sh: actions on the caller's host, where the caller's files are.

run.sh calls the orchestrator twice: `prepare ARGS...` checks the arguments and prints its orders;
then the same arguments again do the work.

An order is one word, or a word with an option and a path. run.sh (caller/orders.sh) refuses a path
that its own command line does not name. So `caller_path` must have made each path from that
option's value or from the verb's argument; such a path has no control characters.
"""

import os

from orchestrator.ask.request import Caller, ImageRequest

#: One order: the name of an action of run.sh, followed by its arguments.
Order = list[str]
Orders = list[Order]

#: Order: connect the verb to the caller's terminal.
TERMINAL: Order = ["terminal"]

#: Order: the stream of files begins with a line that may ask a question (`run/word.py`).
QUESTION: Order = ["question"]

#: Order: nothing more to do, because help was printed.
NOTHING: Order = ["nothing"]


def as_text(orders: Orders, who: Caller) -> str:
    """Format one order per line, words separated by tabs; add the order for the CA bundle."""
    bundle = [["send_bundle"]] if who.ca_bundle else []
    return "".join("\t".join(order) + "\n" for order in [*orders, *bundle])


def appliance_orders(request: ImageRequest) -> Orders:
    """Return the orders to send the files of public keys that an appliance.toml names."""
    if not request.appliance:
        return []
    return [["send", "--appliance", os.fspath(path)] for path in request.appliance.keys.values()]


def image_orders(request: ImageRequest) -> Orders:
    """Return the orders that all verbs that make images share."""
    orders: Orders = [TERMINAL] if request.as_json else []
    if not request.dry_run:
        orders += [["debug_shell"]] if request.debug_shell else []
        orders += [["force"]] if request.force else []
        orders.append(["out_dir", "--out", os.fspath(request.out)])
        orders += [["delivered"]] if request.keeps else []
    orders += [QUESTION] if request.asks else []
    named = [("--inject", one.source) for one in request.image.injections]
    named += [
        ("--stamp", request.image.stamp),
        ("--identity-seed", request.image.identity_seed),
        ("--wifi-password-file", request.image.wifi_password_file),
        ("--secure-boot-key", request.image.secure_boot_key),
        ("--secure-boot-cert", request.image.secure_boot_cert),
        ("--sign", os.fspath(request.sign) if request.sign else ""),
    ]
    named += request.push.files.items() if request.push else ()
    # run.sh looks for a path where the order says that it is named.
    return orders + [
        ["send", "--appliance" if path in request.written else option, path]
        for option, path in named
        if path
    ]
