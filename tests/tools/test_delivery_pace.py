"""Tests delivery to slow readers: a reader that stops is given up."""

import os
import pathlib
import threading
import time

import pytest

from orchestrator.deliver import stream
from orchestrator.shared.errors import DeliveryError
from tests.unit.test_delivery import send


@pytest.mark.parametrize("taken", [0, 1 << 20])
def test_a_reader_that_stands_still_is_given_up(
    taken: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STALL_SECONDS", 2)
    (tmp_path / "large.img").write_bytes(bytes(4 << 20))
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: take(reader, taken))
    thread.start()
    with pytest.raises(DeliveryError, match="the caller read nothing for 2 s"):
        send(tmp_path, ["large.img"], {}, writer)
    thread.join(10)
    os.close(reader)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)


@pytest.mark.slow
def test_a_slow_reader_is_not_given_up(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STALL_SECONDS", 3)
    (tmp_path / "large.img").write_bytes(bytes(1 << 20))
    reader, writer = os.pipe()

    def read() -> None:
        # The whole delivery takes six seconds, longer than the limit for a stopped reader.
        while os.read(reader, 1 << 14):
            time.sleep(6 / 64)
        os.close(reader)

    thread = threading.Thread(target=read)
    thread.start()
    send(tmp_path, ["large.img"], {}, writer)
    thread.join(10)


def take(reader: int, size: int) -> None:
    while size > 0:
        size -= len(os.read(reader, min(size, 1 << 14)))
