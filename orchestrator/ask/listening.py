"""Options of the verbs that start a server: its address on the engine's host, and its port."""

import argparse
import ipaddress

from orchestrator.shared.text import whole

#: Address that no other computer reaches, and those that stand for all of a computer's addresses.
LOOPBACK = "127.0.0.1"
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound


def add_listen_options(group: argparse._ActionsContainer, port: int) -> None:
    """Add --listen and --port, None if not given; `port` is the default that the help tells."""
    group.add_argument(
        "--listen",
        type=address,
        metavar="ADDRESS",
        help=f"address of the engine's host (default: {LOOPBACK}, which no other computer reaches)",
    )
    group.add_argument("--port", type=port_number, metavar="N", help=f"TCP port (default: {port})")


def port_number(text: str) -> int:
    """Parse a TCP port."""
    if not 0 < (port := whole(text) or 0) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 1 to 65535")
    return port


def address(text: str) -> str:
    """Parse an IP address, an IPv6 one with or without brackets; returns it without."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an IP address, such as 127.0.0.1, 0.0.0.0 (all) or [::]"
        ) from None
