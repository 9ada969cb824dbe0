"""Serves the files of this engine's own binary cache by HTTP; `cache serve` starts it.

A build without a sandbox may have written anything to the folder. So the server runs no program and
follows no link.
"""

import functools
import http.server
import io
import pathlib
import socket
import typing

from orchestrator.shared.push import OWN_FOLDER

#: Port in the server's container (`docker/server.py`).
PORT = 5000

#: Longest time in seconds that a client may stay silent.
SILENT_SECONDS = 60


class Server(http.server.ThreadingHTTPServer):
    """Listens for IPv4, and for IPv6 where the kernel has it."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        """Listen for both kinds of addresses by one socket."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Answers with a file of the folder, or that there is none."""

    protocol_version = "HTTP/1.1"
    timeout = SILENT_SECONDS

    def send_head(self) -> io.BytesIO | typing.BinaryIO | None:
        """Send the head of the answer; returns the file to send."""
        place = pathlib.Path(self.translate_path(self.path))
        if place.resolve() != place or not place.is_file():
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def log_message(self, *_words: object) -> None:
        """Log nothing: who may fetch what is no matter of this server."""


def serve(folder: pathlib.Path = OWN_FOLDER, port: int = PORT) -> Server:
    """Return a server of `folder` that listens at `port`."""
    place = folder.resolve()
    return Server(("", port), functools.partial(Handler, directory=str(place)))


if __name__ == "__main__":
    serve().serve_forever()
