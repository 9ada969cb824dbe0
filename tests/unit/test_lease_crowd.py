"""Tests the lease's server with many connections, in any interleaving."""

import asyncio
import contextlib
import pathlib
import socket
import typing

import hypothesis
import pytest
import structlog
from hypothesis import strategies as st

from orchestrator.agents.emulation import lease
from orchestrator.agents.failure import AgentError
from tests.unit.test_lease import (
    SOON,
    TOKEN,
    Cleanup,
    Client,
    cleanup,
    free_port,
    hold,
    on_loop,
    unlock,
)

#: SO_LINGER 0: the connection ends with a TCP reset.
RESET = b"\1\0\0\0\0\0\0\0"

ACTIONS = ("hold", "wrong", "garbage", "close", "reset", "half", "unlock wrong")


class Crowd:
    """Clients by number, and the set of those that must hold the lease."""

    def __init__(self, server: Cleanup) -> None:
        self._server = server
        self._clients: dict[int, Client] = {}
        self.holding: set[int] = set()

    async def do(self, number: int, action: str) -> None:
        client = self._clients.get(number) or await self._server.connect()
        self._clients[number] = client
        match action:
            case "hold" if number not in self.holding:
                assert await client.ask(hold()) == b"HELD\n"
                self.holding.add(number)
                return
            case "wrong":
                assert await client.ask(hold("0" * len(TOKEN))) == b"REFUSED\n"
            case "unlock wrong":
                assert await client.ask(unlock(TOKEN[1:])) == b"REFUSED\n"
            case "garbage" | "hold":
                assert await client.ask(b"\xff\0" * 200 + b"\n") == b"REFUSED\n"
            case "half":
                client.writer.write_eof()
            case "reset":
                connection = typing.cast("socket.socket", client.writer.get_extra_info("socket"))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await client.close()
        self.holding.discard(number)
        del self._clients[number]


async def comes_true(what: typing.Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not what():
            await asyncio.sleep(0.001)


def descriptors() -> int:
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


@hypothesis.given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(ACTIONS)), max_size=20),
    end=st.sampled_from(["unlock", "unlock anew", "stop", "both"]),
)
def test_any_crowd_ends_in_one_cleaning(steps: list[tuple[int, str]], end: str) -> None:
    """The lease is held exactly while a client holds it, and ends only for a documented reason."""

    async def play() -> None:
        async with cleanup(start=30, grace=30, deadline=60) as server:
            crowd = Crowd(server)
            for number, action in steps:
                await crowd.do(number, action)
                # A held lease expires only at the deadline.
                await comes_true(
                    lambda: (server.lease.expires() == server.lease.deadline) == bool(crowd.holding)
                )
                assert server.lease.reason == ""
            if end == "unlock":
                holder = await server.connect()
                assert await holder.ask(hold()) == b"HELD\n"
                assert await holder.ask(unlock()) == b"UNLOCKED\n"
            if end in {"unlock anew", "both"}:
                assert await server.ask(unlock()) == b"UNLOCKED\n"
            if end in {"stop", "both"}:
                server.stop.set()
            reason = await server.end()
            assert reason == ("terminated" if end == "stop" else "unlocked")

    with structlog.testing.capture_logs():
        asyncio.run(play())


@pytest.mark.slow
@on_loop
async def test_ten_thousand_connections_do_not_move_it() -> None:
    async with cleanup() as server:
        holder = await server.connect()
        assert await holder.ask(hold()) == b"HELD\n"
        used = descriptors()
        lines = (b"", b"x", b"\n", hold("0" * len(TOKEN)), unlock("0"), b"A" * 1000)
        with structlog.testing.capture_logs() as logs:
            for round_of_100 in range(100):
                crowd = []
                for number in range(100):
                    client = socket.create_connection(("127.0.0.1", server.port))
                    client.sendall(lines[(number + round_of_100) % len(lines)])
                    if number % 3 == 0:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    crowd.append(client)
                    await asyncio.sleep(0)
                for client in crowd:
                    client.close()
                await comes_true(lambda: descriptors() <= used)
                assert server.lease.reason == ""
        assert len([log for log in logs if log["event"] == "refused"]) == lease.LOGGED_REFUSALS
        # A new connection is below the limit of strangers again.
        assert await server.ask(hold()) == b"HELD\n"
        assert await holder.ask(unlock()) == b"UNLOCKED\n"
        assert await server.end() == "unlocked"


@on_loop
async def test_whoever_vanishes_without_a_word_is_noticed() -> None:
    """The kernel has the settings of `_keep_alive` on the server's sockets."""
    found: list[list[int]] = []
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    with pytest.MonkeyPatch.context() as patch:
        original = lease._Server._introduce

        async def introduce(
            self: lease._Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> bool:
            connection = typing.cast("socket.socket", writer.get_extra_info("socket"))
            alive = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            own = [connection.getsockopt(socket.IPPROTO_TCP, option) for option in options]
            found.append([alive, *own])
            return await original(self, reader, writer)

        patch.setattr(lease._Server, "_introduce", introduce)
        async with cleanup() as server:
            assert await server.ask(unlock()) == b"UNLOCKED\n"
            await server.end()
    ((alive, idle, interval, count),) = found
    assert alive
    assert idle + interval * count <= 30


@hypothesis.given(st.binary(max_size=600))
@hypothesis.example(b"HOLD ")
@hypothesis.example(b"HOLD \xff\n")
@hypothesis.example(f"UNLOCK {TOKEN}".encode())
@hypothesis.example(f"UNLOCK  {TOKEN}\n".encode())
@hypothesis.example(f" UNLOCK {TOKEN}\n".encode())
@hypothesis.example(f"UNLOCK {TOKEN} \n".encode())
@hypothesis.example(f"UNLOCK\t{TOKEN}\n".encode())
def test_any_bytes_are_refused(data: bytes) -> None:
    async def play() -> bytes:
        async with cleanup() as server:
            client = await server.connect()
            client.writer.write(data)
            client.writer.write_eof()
            answer = await client.answer()
            assert server.lease.reason == ""
            return answer

    with structlog.testing.capture_logs() as logs:
        assert asyncio.run(play()) == b"REFUSED\n"
    assert [log["event"] for log in logs] == ["refused"]


@hypothesis.given(st.binary(max_size=600))
@hypothesis.example(b"HELD")
@hypothesis.example(b"HELD\n")
@hypothesis.example(b"REFUSED\n")
@hypothesis.example(b"\xff\n")
def test_a_builder_takes_any_answer_for_yes_or_for_an_error(answer: bytes) -> None:
    """An unexpected answer is an `AgentError`, without a retry."""
    listener = socket.create_server(("127.0.0.1", 0))
    with contextlib.closing(listener):
        connection = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    holder = lease.Holder.__new__(lease.Holder)
    holder._address, holder._token, holder._socket = ("127.0.0.1", free_port()), TOKEN, connection
    with peer:
        peer.sendall(answer)
        peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(AgentError):
            holder.unlock()
            assert answer.partition(b"\n")[0].strip() == b"UNLOCKED"
