"""What is taken from FIFOs and queues, however it was put there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from prefork_chat.channels.errors import ChannelError, ObjectRemoved
from prefork_chat.channels.key import PROJECT
from prefork_chat.channels.posix import PosixQueue, remove_posix_queue
from prefork_chat.channels.sysv import SysvQueue, system_v_key
from prefork_chat.porter.sources import FifoSource, PosixSource, SysvSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    os.mkfifo(path)
    return path


def test_writers_of_a_fifo_come_and_go(fifo: Path) -> None:
    source = FifoSource(fifo)
    assert source.take() is None
    fifo.write_bytes(b"one\ntwo\r\nthr")
    assert source.take() == [b"one", b"two"]
    assert source.take() is None
    fifo.write_bytes(b"ee\n")
    assert source.take() == [b"three"]
    assert source.fileno() is not None
    source.close()


def test_a_line_without_end_is_given_up_and_the_next_one_is_read(fifo: Path) -> None:
    source = FifoSource(fifo)
    fifo.write_bytes(b"x" * 4096)
    (endless,) = source.take() or []
    assert len(endless) == 4096
    fifo.write_bytes(b"y" * 4096)
    assert source.take() == []
    fifo.write_bytes(b"the rest of it\nnext\n")
    assert source.take() == [b"next"]
    source.close()


def test_what_waits_in_a_fifo_outlives_its_reader(fifo: Path) -> None:
    keeper = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    source = FifoSource(fifo)
    fifo.write_bytes(b"one\n")
    source.close()
    source = FifoSource(fifo)
    assert source.take() == [b"one"]
    source.close()
    os.close(keeper)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[SysvQueue]:
    (tmp_path / "key").touch()
    queue = SysvQueue.create(system_v_key(tmp_path / "key", PROJECT), 8192)
    yield queue
    queue.remove()


def test_messages_of_a_system_v_queue_are_lines_of_any_type(
    queue: SysvQueue, tmp_path: Path
) -> None:
    source = SysvSource(tmp_path / "key")
    assert source.fileno() is None
    assert source.take() is None
    queue.put(memoryview(b"one\0"), 1, 0)
    queue.put(memoryview(b"two\nthree\n"), 99, 0)
    queue.put(memoryview(b"x" * 8192), 2, 0)
    assert source.take() == [b"one"]
    assert source.take() == [b"two", b"three"]
    assert source.take() == [b"x" * 8192]
    assert source.take() is None
    queue.remove()
    with pytest.raises(ObjectRemoved):
        source.take()
    source.close()
    with pytest.raises(ChannelError):
        SysvSource(tmp_path / "key")


def test_messages_of_a_posix_queue_are_lines() -> None:
    name = f"/prefork-chat-test-{os.getpid()}"
    queue = PosixQueue.create(name, 4, 1024, 1024)
    try:
        source = PosixSource(name)
        assert source.take() is None
        queue.put(memoryview(b"one\r\n\0"))
        assert source.fileno() is not None
        assert source.take() == [b"one"]
        source.close()
    finally:
        remove_posix_queue(name)
        queue.close()
    with pytest.raises(ChannelError):
        PosixSource(name)
