"""The lease: cleanup keeps binfmt_misc as it is while a builder that knows the token is connected.

`Lease` is the rule, a state machine without a clock of its own; `serve` and `Holder` are its two
ends on TCP. One line each way, ASCII, ended by a newline:

    HOLD <token>    -> HELD       the connection now holds the lease
    UNLOCK <token>  -> UNLOCKED   the build is done, clean up
    anything else   -> REFUSED    and the connection is closed

So a crashed, killed or never-started builder cannot leave the host dirty: cleaning starts on
UNLOCK, when no holder has been connected for `grace` seconds, at the deadline, or on SIGTERM,
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

#: A client must say its line within this many seconds, and in this many bytes.
SPEAK_SECONDS = 5
LINE_BYTES = 256

#: Connections that have not shown a token yet: more than these are closed at once.
MOST_STRANGERS = 256

#: Refusals that are logged one by one; beyond, only their number is.
LOGGED_REFUSALS = 20


@dataclasses.dataclass
class Lease:
    """When to clean up. Times are seconds of one monotonic clock, connections any hashable names.

    Attributes: `start_by` is when a first holder must have come, `grace` how long none may be there
    afterwards, `deadline` when the lease ends in any case; `reason` is why it ended, empty while it
    runs.
    """

    start_by: float
    grace: float
    deadline: float
    reason: str = ""
    _holders: set[object] = dataclasses.field(default_factory=set)
    _alone_since: float = math.nan

    def hold(self, connection: object) -> None:
        """`connection` has shown the token and holds the lease."""
        self._holders.add(connection)

    def drop(self, connection: object, now: float) -> None:
        """`connection` is gone."""
        if connection in self._holders:
            self._holders.remove(connection)
            if not self._holders:
                self._alone_since = now

    def end(self, reason: str) -> None:
        """End the lease for `reason`; only the first reason counts."""
        self.reason = self.reason or reason

    def expires(self) -> float:
        """When `tick` must be called next, if nothing happens before."""
        if self._holders:
            return self.deadline
        alone = self.start_by if math.isnan(self._alone_since) else self._alone_since + self.grace
        return min(alone, self.deadline)

    def tick(self, now: float) -> None:
        """End the lease if its time has come."""
        if now < self.expires():
            return
        if now >= self.deadline:
            self.end("deadline")
        else:
            self.end("never held" if math.isnan(self._alone_since) else "connection lost")


class _Server:
    """One running server: shares the lease, the token and the counters among connections."""

    def __init__(self, lease: Lease, token: str) -> None:
        self.lease = lease
        self.changed = asyncio.Event()
        self._token = token.encode()
        self._strangers = 0
        self._refusals: collections.Counter[str] = collections.Counter()

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one connection until it is refused, closed, or the lease ends."""
        try:
            _keep_alive(writer)
            if await self._introduce(reader, writer):
                self.lease.hold(writer)
                self.changed.set()
                await self._listen(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # a connection that breaks is a connection that is gone: `finally` says so
        finally:
            self.lease.drop(writer, time.monotonic())
            self.changed.set()
            writer.close()

    async def _introduce(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if self._strangers >= MOST_STRANGERS:
            return self._refuse(writer, "too many strangers")
        self._strangers += 1
        try:
            async with asyncio.timeout(SPEAK_SECONDS):
                verb = self._verb(await reader.readuntil(b"\n"))
        except TimeoutError:
            return self._refuse(writer, "silence")
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            return self._refuse(writer, "garbage")
        finally:
            self._strangers -= 1
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
        """Wait for the holder's UNLOCK; returns when it has come or the connection is gone."""
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
        """The verb of a line whose token is right, else nothing."""
        verb, _, token = line.rstrip(b"\r\n").partition(b" ")
        return verb if hmac.compare_digest(token, self._token) else b""

    def _unlock(self) -> None:
        self.lease.end("unlocked")
        self.changed.set()

    def _refuse(self, writer: asyncio.StreamWriter, why: str) -> bool:
        """Tell the client and the log; never what it sent, that could be a token of another run."""
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
        """Say how many were refused in all, where not each was logged."""
        if self._refusals.total() > LOGGED_REFUSALS:
            events.emit("refusals", level="warning", counts=dict(self._refusals))


async def serve(
    lease: Lease, token: str, port: int, ready: Callable[[], None], stop: asyncio.Event
) -> None:
    """Serve `lease` on `port` until it ends.

    `ready` is called once connections are taken, `stop` ends it (SIGTERM).
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
        server.close_clients()  # leaving the block would wait for them
    state.report()


class Holder:
    """The builder's end: connects and keeps the connection until `unlock`."""

    def __init__(self, address: tuple[str, int], token: str, patience: float) -> None:
        """Connect to `address` within `patience` seconds and hold the lease.

        Raises `AgentError`.
        """
        self._address = address
        self._token = token
        try:
            self._socket = retry.without(OSError, lambda: self._ask("HOLD", "HELD"), patience, 0.1)
        except OSError as error:
            raise AgentError(f"cleanup cannot be reached: {error}", kind="cleanup") from error

    def unlock(self) -> None:
        """Tell cleanup that the build is done; over a new connection where the old one is lost."""
        try:
            self._tell(self._socket, "UNLOCK", "UNLOCKED")
        except OSError:
            try:
                self._ask("UNLOCK", "UNLOCKED").close()
            except OSError as error:
                raise AgentError(
                    f"cleanup is gone before it was unlocked: {error}", kind="cleanup"
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
            raise AgentError("cleanup refused the token of this run", kind="cleanup")
        if reply != answer:
            raise ConnectionError(f"cleanup said {reply!r}")


async def _say(writer: asyncio.StreamWriter, line: bytes) -> None:
    writer.write(line)
    await writer.drain()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Notice within half a minute that the other end has vanished without a word."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
