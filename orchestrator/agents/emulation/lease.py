"""The lease: cleanup keeps binfmt_misc while a builder with the token is connected.

`Lease` is the state machine, without a clock; `serve` (in cleanup) and `Holder` (in the builder)
are the two ends of the TCP connection. Each message is one ASCII line, ended by a newline:

    HOLD <token>    -> HELD       the connection now holds the lease
    UNLOCK <token>  -> UNLOCKED   the build is done, clean up
    anything else   -> REFUSED    and the connection is closed

A crashed, killed or never-started builder cannot leave entries on the host: cleanup starts at
UNLOCK, when no holder has been connected for `grace` seconds, at the deadline, or at SIGTERM,
whichever comes first.
"""

import asyncio
import collections
import dataclasses
import hmac
import math
import socket
import time
from collections.abc import Callable

from orchestrator.agents import events
from orchestrator.agents.failure import AgentError
from orchestrator.shared import retry

PORT = 11111

#: Limits for a client's first line: seconds until it is complete, and bytes.
SPEAK_SECONDS = 5
LINE_BYTES = 256

#: Most connections that have not sent a token yet; for a further one the oldest is closed.
MOST_STRANGERS = 256

#: Number of refusals that are logged individually; further ones are only counted.
LOGGED_REFUSALS = 20


@dataclasses.dataclass
class Lease:
    """State machine that decides when cleanup starts.

    Times are seconds of one monotonic clock; connections are any hashable values. Attributes:
    `start_by`: time by which the first holder must connect; `grace`: longest time without a holder
    afterwards; `deadline`: time at which the lease ends in any case; `reason`: why it ended, empty
    while it runs.
    """

    start_by: float
    grace: float
    deadline: float
    reason: str = ""
    _holders: set[object] = dataclasses.field(default_factory=set)
    _alone_since: float = math.nan

    def hold(self, connection: object) -> None:
        """Note that `connection` has sent the token and holds the lease."""
        self._holders.add(connection)

    def drop(self, connection: object, now: float) -> None:
        """Note that `connection` is closed."""
        if connection in self._holders:
            self._holders.remove(connection)
            if not self._holders:
                self._alone_since = now

    def end(self, reason: str) -> None:
        """End the lease for `reason`; the first reason is kept."""
        self.reason = self.reason or reason

    def expires(self) -> float:
        """Return the time at which `tick` must be called next, if nothing happens before."""
        if self._holders:
            return self.deadline
        alone = self.start_by if math.isnan(self._alone_since) else self._alone_since + self.grace
        return min(alone, self.deadline)

    def tick(self, now: float) -> None:
        """End the lease if it has expired at time `now`."""
        if now < self.expires():
            return
        if now >= self.deadline:
            self.end("deadline")
        else:
            self.end("never held" if math.isnan(self._alone_since) else "connection lost")


class _Server:
    """One TCP server: lease, token and counters that all its connections share."""

    def __init__(self, lease: Lease, token: str) -> None:
        self.lease = lease
        self.changed = asyncio.Event()
        self._token = token.encode()
        #: Connections that have not sent a line yet, the oldest first.
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        self._refusals: collections.Counter[str] = collections.Counter()

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it is refused or closed, or the lease ends."""
        try:
            _keep_alive(writer)
            if await self._introduce(reader, writer):
                self.lease.hold(writer)
                self.changed.set()
                await self._listen(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # a broken connection is dropped in `finally`
        finally:
            self.lease.drop(writer, time.monotonic())
            self.changed.set()
            writer.close()

    async def _introduce(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if len(self._strangers) >= MOST_STRANGERS:
            # A builder sends its token at once: whoever is silent must not keep it out.
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            self._refuse(oldest, "too many strangers")
            oldest.close()
        self._strangers[writer] = None
        try:
            async with asyncio.timeout(SPEAK_SECONDS):
                verb = self._verb(await reader.readuntil(b"\n"))
        except TimeoutError:
            return self._refuse(writer, "silence")
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            return writer in self._strangers and self._refuse(writer, "garbage")
        finally:
            self._strangers.pop(writer, None)
        if verb == b"HOLD":
            events.emit("lease-held")
            await _say(writer, b"HELD\n")
            return True
        if verb == b"UNLOCK":
            self._unlock()
            await _say(writer, b"UNLOCKED\n")
            return False
        return self._refuse(writer, "wrong token or verb")

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wait for the holder's UNLOCK or for the end of the connection."""
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            line = b""
        if line and self._verb(line) == b"UNLOCK":
            self._unlock()
            await _say(writer, b"UNLOCKED\n")
        else:
            self._refuse(writer, "wrong token or verb from a holder")

    def _verb(self, line: bytes) -> bytes:
        """Return the verb of `line` if its token is correct, else b""."""
        verb, _, token = line.rstrip(b"\r\n").partition(b" ")
        return verb if hmac.compare_digest(token, self._token) else b""

    def _unlock(self) -> None:
        self.lease.end("unlocked")
        self.changed.set()

    def _refuse(self, writer: asyncio.StreamWriter, why: str) -> bool:
        """Answer REFUSED and log it, without the received line: it may be another run's token."""
        self._refusals[why] += 1
        if self._refusals.total() <= LOGGED_REFUSALS:
            peer = writer.get_extra_info("peername") or ("?",)
            events.emit(
                "refused",
                level="warning",
                message=f"refused {peer[0]}: {why}",
                peer=peer[0],
                why=why,
            )
        if not writer.is_closing():
            writer.write(b"REFUSED\n")
        return False

    def report(self) -> None:
        """Log the number of refusals, if not each was logged."""
        if self._refusals.total() > LOGGED_REFUSALS:
            events.emit("refusals", level="warning", counts=dict(self._refusals))


async def serve(
    lease: Lease, token: str, port: int, ready: Callable[[], None], stop: asyncio.Event
) -> None:
    """Serve `lease` on `port` until it ends.

    `ready` is called when connections are accepted; setting `stop` (SIGTERM) ends the lease.
    """
    state = _Server(lease, token)
    server = await asyncio.start_server(state.client, port=port, limit=LINE_BYTES, backlog=1024)
    async with server:
        ready()
        while not lease.reason:
            waiting = [
                asyncio.ensure_future(state.changed.wait()),
                asyncio.ensure_future(stop.wait()),
            ]
            patience = max(0.0, lease.expires() - time.monotonic())
            await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            state.changed.clear()
            if stop.is_set():
                lease.end("terminated")
            lease.tick(time.monotonic())
        server.close()
        server.close_clients()  # otherwise leaving `async with` would wait for open connections
    state.report()


class Holder:
    """The builder's end of the lease: keeps the connection open until `unlock`."""

    def __init__(self, address: tuple[str, int], token: str, patience: float) -> None:
        """Connect to `address` within `patience` seconds and take the lease.

        Raises `AgentError`.
        """
        self._address = address
        self._token = token
        try:
            self._socket = retry.without(OSError, lambda: self._ask("HOLD", "HELD"), patience, 0.1)
        except OSError as error:
            raise AgentError(
                f"the container cleanup cannot be reached: {error}", kind="cleanup"
            ) from error

    def unlock(self) -> None:
        """Send UNLOCK to cleanup; reconnect if the connection is lost."""
        try:
            self._tell(self._socket, "UNLOCK", "UNLOCKED")
        except OSError:
            try:
                self._ask("UNLOCK", "UNLOCKED").close()
            except OSError as error:
                raise AgentError(
                    f"cleanup ended before the builder unlocked it: {error}", kind="cleanup"
                ) from error
        finally:
            self._socket.close()

    def _ask(self, verb: str, answer: str) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=SPEAK_SECONDS)
        try:
            self._tell(connection, verb, answer)
        except BaseException:
            connection.close()
            raise
        return connection

    def _tell(self, connection: socket.socket, verb: str, answer: str) -> None:
        connection.sendall(f"{verb} {self._token}\n".encode())
        with connection.makefile("rb") as replies:
            reply = replies.readline(LINE_BYTES).decode(errors="replace").strip()
        if reply == "REFUSED":
            raise AgentError("the container cleanup refused the token of this run", kind="cleanup")
        if reply != answer:
            raise ConnectionError(f"unexpected answer of the container cleanup: {reply!r}")


async def _say(writer: asyncio.StreamWriter, line: bytes) -> None:
    writer.write(line)
    await writer.drain()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Set TCP keepalive, which detects a vanished peer within half a minute."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
