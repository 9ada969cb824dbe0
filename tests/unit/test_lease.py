"""Tests the lease: the state machine under any order of events.

The tests also run both ends on real sockets.
"""

import asyncio
import contextlib
import math
import socket
import threading
import time
import typing
from collections.abc import AsyncIterator, Awaitable, Callable

import hypothesis
import hypothesis.stateful
import pytest
import structlog
from hypothesis import strategies as st

from orchestrator.agents import events
from orchestrator.agents.emulation import lease
from orchestrator.agents.emulation.lease import Holder, Lease
from orchestrator.agents.failure import AgentError

TOKEN = "5ec4e7" * 8

#: Time limit in seconds for an event that should be immediate.
SOON = 3.0


# --- the state machine
# ---------------------------------------------------------------------------------


class LeaseRules(hypothesis.stateful.RuleBasedStateMachine):
    """State machine test: any interleaving of events, compared with a simple model.

    The model computes when the lease must end.
    """

    CONNECTIONS = st.integers(0, 3)

    @hypothesis.stateful.initialize(
        start=st.floats(0.1, 100),
        grace=st.floats(0.1, 100),
        deadline=st.floats(0.1, 300),
        begin=st.floats(0, 1e6),
    )
    def begin(self, start: float, grace: float, deadline: float, begin: float) -> None:
        self.now = begin
        self.grace = grace
        self.start_by = begin + start
        self.deadline = begin + deadline
        self.lease = Lease(self.start_by, grace, self.deadline)
        self.held: set[int] = set()
        self.ever_held = False
        self.alone_since = math.nan
        self.unlocked = False
        self.first_reason = ""

    @hypothesis.stateful.rule(connection=CONNECTIONS)
    def hold(self, connection: int) -> None:
        self.lease.hold(connection)
        self.held.add(connection)
        self.ever_held = True

    @hypothesis.stateful.rule(connection=CONNECTIONS)
    def drop(self, connection: int) -> None:
        """Connections that never held the lease are dropped, too."""
        self.lease.drop(connection, self.now)
        if self.held == {connection}:
            self.alone_since = self.now
        self.held.discard(connection)

    @hypothesis.stateful.rule()
    def unlock(self) -> None:
        self.lease.end("unlocked")
        self.unlocked = True

    @hypothesis.stateful.rule(seconds=st.floats(0, 120))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @hypothesis.stateful.rule()
    def sleep_until_due(self) -> None:
        """Sleep until `expires`, as the server does.

        Random times would seldom hit the edges.
        """
        self.now = max(self.now, self.lease.expires())

    @hypothesis.stateful.rule()
    def tick(self) -> None:
        self.lease.tick(self.now)
        due = self.now >= self.deadline or (not self.held and self.now >= self._alone_until())
        assert bool(self.lease.reason) == (due or self.unlocked or bool(self.first_reason))

    @hypothesis.stateful.invariant()
    def the_first_reason_stays_and_is_true(self) -> None:
        reason = self.lease.reason
        if self.first_reason:
            assert reason == self.first_reason
            return
        self.first_reason = reason
        match reason:
            case "":
                assert not self.unlocked
            case "unlocked":
                assert self.unlocked
            case "deadline":
                assert self.now >= self.deadline
            case "connection lost":
                assert self.ever_held
                assert not self.held
                assert self.now >= self.alone_since + self.grace
            case "never held":
                assert not self.ever_held
                assert self.now >= self.start_by
            case _:
                pytest.fail(f"an unknown reason: {reason}")

    @hypothesis.stateful.invariant()
    def it_is_due_at_the_right_time(self) -> None:
        """`expires` is exact, so that the server sleeps neither too short nor too long."""
        alone = math.inf if self.held else self._alone_until()
        assert self.lease.expires() == min(alone, self.deadline)

    def teardown(self) -> None:
        if hasattr(self, "lease"):
            self.now = max(self.now, self.deadline)
            self.lease.tick(self.now)
            assert self.lease.reason

    def _alone_until(self) -> float:
        return self.alone_since + self.grace if self.ever_held else self.start_by


TestLeaseRules = LeaseRules.TestCase
TestLeaseRules.settings = hypothesis.settings(
    max_examples=2 * hypothesis.settings().max_examples, stateful_step_count=30
)


# --- the server -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Cleanup:
    """A running server with its lease, and its clients."""

    def __init__(self, start: float, grace: float, deadline: float) -> None:
        now = time.monotonic()
        self.lease = Lease(now + start, grace, now + deadline)
        self.port = free_port()
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.clients: list[Client] = []

    async def connect(self) -> "Client":
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, line: bytes) -> bytes:
        """Send one line on a new connection; return the answer."""
        client = await self.connect()
        reply = await client.ask(line)
        await client.close()
        return reply

    async def end(self) -> str:
        """Wait for the server's end; return the lease's reason."""
        assert self.task is not None
        async with asyncio.timeout(SOON):
            await asyncio.shield(self.task)
        return self.lease.reason


class Client:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, line: bytes) -> bytes:
        self.writer.write(line)
        return await self.answer()

    async def answer(self) -> bytes:
        """Return the server's line; a reset, which unread data causes, is a refusal."""
        try:
            async with asyncio.timeout(SOON):
                return await self._reader.readline()
        except ConnectionResetError:
            return b"REFUSED\n"

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def cleanup(
    *, start: float = 60, grace: float = 60, deadline: float = 60
) -> AsyncIterator[Cleanup]:
    state = Cleanup(start, grace, deadline)
    ready = asyncio.Event()
    state.task = asyncio.ensure_future(
        lease.serve(state.lease, TOKEN, state.port, ready.set, state.stop)
    )
    try:
        async with asyncio.timeout(SOON):
            await ready.wait()
        yield state
    finally:
        for client in state.clients:
            await client.close()
        state.stop.set()
        await asyncio.wait_for(state.task, SOON)


def hold(token: str = TOKEN) -> bytes:
    return f"HOLD {token}\n".encode()


def unlock(token: str = TOKEN) -> bytes:
    return f"UNLOCK {token}\n".encode()


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine as a test; pytest sees its parameters."""

    def run(*arguments: typing.Any, **named: typing.Any) -> None:  # noqa: ANN401
        async def body() -> None:
            await test(*arguments, **named)

        asyncio.run(body())

    run.__name__ = test.__name__
    run.__wrapped__ = test  # type: ignore[attr-defined]
    return run


@on_loop
async def test_the_holder_unlocks_over_its_connection() -> None:
    async with cleanup() as server:
        client = await server.connect()
        assert await client.ask(hold()) == b"HELD\n"
        assert server.lease.reason == ""
        assert await client.ask(unlock()) == b"UNLOCKED\n"
        assert await server.end() == "unlocked"


@on_loop
async def test_the_right_token_unlocks_over_a_new_connection() -> None:
    async with cleanup() as server:
        assert await server.ask(unlock()) == b"UNLOCKED\n"
        assert await server.end() == "unlocked"


@on_loop
async def test_unlocking_over_a_new_connection_does_not_wait_for_the_old_one() -> None:
    async with cleanup() as server:
        old = await server.connect()
        assert await old.ask(hold()) == b"HELD\n"
        assert await server.ask(unlock()) == b"UNLOCKED\n"
        assert await server.end() == "unlocked"


STRANGERS = {
    "wrong token": hold("0" * 48),
    "wrong token to unlock": unlock("0" * 48),
    "no token": b"HOLD\n",
    "empty token": b"UNLOCK \n",
    "part of the token": hold(TOKEN[:-1]),
    "more than the token": hold(TOKEN + "0"),
    "the token alone": TOKEN.encode() + b"\n",
    "another verb": b"DROP " + TOKEN.encode() + b"\n",
    "lower case": b"unlock " + TOKEN.encode() + b"\n",
    "an empty line": b"\n",
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "bytes": b"\xff\x00\xfe\n",
    "a line too long": b"A" * 5000 + b"\n",
    "no end of line": b"A" * 5000,
}


@pytest.mark.parametrize("line", STRANGERS.values(), ids=STRANGERS)
@on_loop
async def test_a_stranger_is_refused_and_logged_while_the_lease_holds(line: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        async with cleanup() as server:
            holder = await server.connect()
            assert await holder.ask(hold()) == b"HELD\n"
            assert await server.ask(line) == b"REFUSED\n"
            assert server.lease.reason == ""
            assert await holder.ask(unlock()) == b"UNLOCKED\n"
            assert await server.end() == "unlocked"
    refused = [log for log in logs if log["event"] == "refused"]
    assert [(log["log_level"], log["peer"]) for log in refused] == [("warning", "127.0.0.1")]


@on_loop
async def test_a_silent_connection_is_refused_and_does_not_hold() -> None:
    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(lease, "SPEAK_SECONDS", 0.05)
        async with cleanup(start=0.2) as server:
            silent = await server.connect()
            assert await silent.answer() == b"REFUSED\n"
            await silent.close()
            assert await server.end() == "never held"
    assert [log["why"] for log in logs if log["event"] == "refused"] == ["silence"]


@on_loop
async def test_a_port_scan_does_no_harm() -> None:
    with structlog.testing.capture_logs() as logs:
        async with cleanup() as server:
            for _ in range(5):
                scanner = await server.connect()
                await scanner.close()
            assert await server.ask(hold()) == b"HELD\n"
            assert await server.ask(unlock()) == b"UNLOCKED\n"
            assert await server.end() == "unlocked"
    assert [log["why"] for log in logs if log["event"] == "refused"] == ["garbage"] * 5


@on_loop
async def test_too_many_silent_strangers_do_not_lock_the_holder_out() -> None:
    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(lease, "MOST_STRANGERS", 3)
        async with cleanup() as server:
            holder = await server.connect()
            assert await holder.ask(hold()) == b"HELD\n"
            crowd = [await server.connect() for _ in range(3)]
            # The oldest makes room for one that says its token.
            assert await server.ask(hold()) == b"HELD\n"
            assert await crowd[0].answer() == b"REFUSED\n"
            # Only connections without a valid token count.
            assert await holder.ask(unlock()) == b"UNLOCKED\n"
            for stranger in crowd:
                await stranger.close()
            assert await server.end() == "unlocked"
    assert "too many strangers" in [log.get("why") for log in logs]


@on_loop
async def test_a_flood_of_refusals_is_counted_not_logged_one_by_one() -> None:
    with structlog.testing.capture_logs() as logs:
        async with cleanup() as server:
            for _ in range(lease.LOGGED_REFUSALS + 15):
                assert await server.ask(hold("wrong")) == b"REFUSED\n"
            server.stop.set()
            await server.end()
    names = [log["event"] for log in logs]
    assert names.count("refused") == lease.LOGGED_REFUSALS
    (total,) = (log["counts"] for log in logs if log["event"] == "refusals")
    assert total == {"wrong token or verb": lease.LOGGED_REFUSALS + 15}


@on_loop
async def test_a_lost_connection_ends_the_lease_after_the_grace_time_not_before() -> None:
    async with cleanup(grace=0.4) as server:
        client = await server.connect()
        assert await client.ask(hold()) == b"HELD\n"
        began = time.monotonic()
        await client.close()
        await asyncio.sleep(0.2)
        assert server.lease.reason == ""
        assert await server.end() == "connection lost"
        assert 0.4 <= time.monotonic() - began < 2


@on_loop
async def test_a_holder_that_comes_back_within_the_grace_time_keeps_the_lease() -> None:
    async with cleanup(grace=0.4) as server:
        first = await server.connect()
        assert await first.ask(hold()) == b"HELD\n"
        await first.close()
        await asyncio.sleep(0.1)
        second = await server.connect()
        assert await second.ask(hold()) == b"HELD\n"
        await asyncio.sleep(0.6)
        assert server.lease.reason == ""
        assert await second.ask(unlock()) == b"UNLOCKED\n"
        assert await server.end() == "unlocked"


@on_loop
async def test_a_holder_that_talks_nonsense_is_no_holder_any_more() -> None:
    async with cleanup(grace=0.1) as server:
        client = await server.connect()
        assert await client.ask(hold()) == b"HELD\n"
        assert await client.ask(b"nonsense\n") == b"REFUSED\n"
        assert await server.end() == "connection lost"


@on_loop
async def test_strangers_do_not_stand_in_for_a_holder_that_never_comes() -> None:
    async with cleanup(start=0.15) as server:
        assert await server.ask(hold("wrong")) == b"REFUSED\n"
        assert await server.end() == "never held"


@on_loop
async def test_the_deadline_ends_it_although_it_is_held() -> None:
    async with cleanup(deadline=0.2) as server:
        client = await server.connect()
        assert await client.ask(hold()) == b"HELD\n"
        assert await server.end() == "deadline"


@on_loop
async def test_stopping_ends_it_at_once_although_it_is_held() -> None:
    async with cleanup() as server:
        client = await server.connect()
        assert await client.ask(hold()) == b"HELD\n"
        server.stop.set()
        assert await server.end() == "terminated"


def test_neither_the_token_nor_what_strangers_say_is_logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk() -> None:
        async with cleanup() as server:
            for line in (*STRANGERS.values(), b"HOLD someone-elses-secret\n"):
                await server.ask(line)
            holder = await server.connect()
            await holder.ask(hold())
            await holder.ask(unlock())
            await server.end()

    for log_format in ("json", "plain"):
        monkeypatch.setenv("NIXOS_IMAGE_LOG", log_format)
        events.configure("cleanup")
        asyncio.run(talk())
    said = "".join(capsys.readouterr())
    assert said.count("127.0.0.1") > 2 * len(STRANGERS)
    assert TOKEN not in said
    assert TOKEN[:-1] not in said
    assert "someone-elses-secret" not in said


# --- the builder's end ------------------------------------------------------------------------


@on_loop
async def test_a_holder_holds_and_unlocks() -> None:
    async with cleanup() as server:
        holder = await asyncio.to_thread(Holder, ("127.0.0.1", server.port), TOKEN, SOON)
        await asyncio.sleep(0.1)
        assert server.lease.reason == ""
        await asyncio.to_thread(holder.unlock)
        assert await server.end() == "unlocked"


@on_loop
async def test_a_holder_with_a_wrong_token_is_told_at_once() -> None:
    async with cleanup() as server:
        began = time.monotonic()
        with pytest.raises(AgentError, match="refused the token") as caught:
            await asyncio.to_thread(Holder, ("127.0.0.1", server.port), "wrong", SOON)
        assert caught.value.kind == "cleanup"
        assert time.monotonic() - began < 2


def test_a_holder_without_a_server_gives_up() -> None:
    began = time.monotonic()
    with pytest.raises(AgentError, match="cannot be reached") as caught:
        Holder(("127.0.0.1", free_port()), TOKEN, 0.15)
    assert caught.value.kind == "cleanup"
    assert 0.05 < time.monotonic() - began < 3


class Scripted:
    """Start a peer that sends given answers to each connection's first line, then closes it."""

    def __init__(self, *answers: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.heard: list[str] = []
        self._thread = threading.Thread(target=self._serve, args=(answers,), daemon=True)

    def __enter__(self) -> "Scripted":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(SOON)
        self._listener.close()

    def _serve(self, answers: tuple[bytes, ...]) -> None:
        for answer in answers:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as lines:
                self.heard.append(lines.readline().decode())
                connection.sendall(answer)
        self._listener.close()


def test_a_holder_whose_connection_was_lost_unlocks_over_a_new_one() -> None:
    with Scripted(b"HELD\n", b"UNLOCKED\n") as peer:
        Holder(peer.address, TOKEN, SOON).unlock()
    assert peer.heard == [hold().decode(), unlock().decode()]


def test_a_holder_tries_again_where_the_answer_is_cut_off() -> None:
    with Scripted(b"", b"HE", b"HELD\n", b"UNLOCKED\n") as peer:
        Holder(peer.address, TOKEN, SOON).unlock()
    assert len(peer.heard) == 4


def test_unlocking_says_so_where_cleanup_is_gone() -> None:
    with Scripted(b"HELD\n") as peer:
        holder = Holder(peer.address, TOKEN, SOON)
    with pytest.raises(AgentError, match="ended before the builder unlocked it") as caught:
        holder.unlock()
    assert caught.value.kind == "cleanup"
