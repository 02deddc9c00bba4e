"""What others do to a channel: remove its objects, write into them what is no message, leave."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

import pytest

from prefork_chat.channels.channel import MAX_MESSAGE_BYTES
from prefork_chat.channels.errors import (
    ChannelError,
    ChannelTaken,
    ChannelTimeout,
    NoServer,
    ObjectRemoved,
    PeerGone,
)
from prefork_chat.channels.key import Key
from prefork_chat.channels.mechanisms import connect, serve
from prefork_chat.channels.names import (
    FIFO,
    PIPE,
    POSIX_QUEUE,
    SHARED_MEMORY,
    SOCKET,
    SYSV_QUEUE,
)
from prefork_chat.channels.pipe import receiver_of, sender_of
from prefork_chat.channels.posix import PosixQueue
from prefork_chat.channels.shared_memory import sibling
from prefork_chat.channels.sysv import SysvMemory, SysvQueue, SysvSemaphore, remove_sysv

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_chat.channels.channel import Sender

PATIENCE_SECONDS: Final = 20.0


def test_a_queue_removed_by_hand_is_noticed_by_both_sides(key: Path, ledger: Path) -> None:
    with serve(SYSV_QUEUE, key, ledger) as sender, connect(SYSV_QUEUE, key, ledger) as receiver:
        assert remove_sysv("queue", Key.of(key).number, None)
        with pytest.raises(ObjectRemoved):
            sender.send(b"message")
        with pytest.raises(PeerGone):
            receiver.receive(PATIENCE_SECONDS)


@pytest.mark.parametrize("project", ["F", "R"])
def test_a_semaphore_removed_by_hand_is_noticed(key: Path, ledger: Path, project: str) -> None:
    number = Key.of(key).number
    with (
        serve(SHARED_MEMORY, key, ledger) as sender,
        connect(SHARED_MEMORY, key, ledger) as receiver,
    ):
        sender.wait_for_client(PATIENCE_SECONDS)
        assert remove_sysv("semaphore", sibling(number, ord(project)), None)
        with pytest.raises(ObjectRemoved):
            sender.send(b"message")
        sender.close()
        with pytest.raises(PeerGone):
            receiver.receive(PATIENCE_SECONDS)
        assert not receiver.is_peer_alive()


def test_bytes_without_boundaries_are_no_stream(key: Path, ledger: Path) -> None:
    with serve(FIFO, key, ledger), connect(FIFO, key, ledger) as receiver:
        (path,) = ledger.glob("*.fifo")
        path_fd = os.open(path, os.O_WRONLY)
        os.write(path_fd, b"echo hello > fifo")
        with pytest.raises(ChannelError, match="no boundaries"):
            receiver.receive(PATIENCE_SECONDS)
        os.close(path_fd)


@pytest.mark.parametrize("mechanism", [POSIX_QUEUE, SYSV_QUEUE])
def test_messages_that_are_no_parts_are_refused(key: Path, ledger: Path, mechanism: str) -> None:
    number = Key.of(key).number

    def put(kind: int, body: bytes) -> None:
        if mechanism == SYSV_QUEUE:
            assert SysvQueue.open(number, 8192).put(memoryview(body), kind, PATIENCE_SECONDS)
            return
        queue = PosixQueue.open(f"/prefork-chat-{os.geteuid()}-{number:08x}")
        assert queue.put(memoryview(bytes([kind]) + body))
        queue.close()

    with serve(mechanism, key, ledger), connect(mechanism, key, ledger) as receiver:
        put(9, b"?")
        with pytest.raises(ChannelError, match="a message of type 9"):
            receiver.receive(PATIENCE_SECONDS)
        for _ in range(MAX_MESSAGE_BYTES // 8000):
            put(2, b"x" * 8000)
            with pytest.raises(ChannelTimeout):
                receiver.receive(0)
        put(1, b"x" * 8000)
        with pytest.raises(ChannelError, match="more than 65,536 bytes"):
            receiver.receive(PATIENCE_SECONDS)


def test_a_slot_that_is_longer_than_it_can_be_is_refused(key: Path, ledger: Path) -> None:
    with (
        serve(SHARED_MEMORY, key, ledger) as sender,
        connect(SHARED_MEMORY, key, ledger) as receiver,
    ):
        sender.wait_for_client(PATIENCE_SECONDS)
        sender.send(b"message")
        memory = SysvMemory.open(Key.of(key).number)
        struct.pack_into("=I", memory.view, 64, MAX_MESSAGE_BYTES + 1)
        memory.close()
        with pytest.raises(ChannelError, match="65,537 bytes"):
            receiver.receive(PATIENCE_SECONDS)


def test_memory_of_somebody_else_is_no_channel(key: Path, ledger: Path) -> None:
    memory = SysvMemory.create(Key.of(key).number, 100)
    with pytest.raises(NoServer, match="is no channel of this version"):
        connect(SHARED_MEMORY, key, ledger)
    memory.remove()
    memory.close()


def test_a_ring_that_is_read_by_a_stranger_has_no_second_reader(key: Path, ledger: Path) -> None:
    """A C program is not in the ledger: its pid is in the ring."""
    number = Key.of(key).number
    with serve(SHARED_MEMORY, key, ledger):
        memory = SysvMemory.open(number)
        struct.pack_into("=I", memory.view, 20, 4711)
        memory.close()
        with pytest.raises(ChannelTaken, match="by pid 4711"):
            connect(SHARED_MEMORY, key, ledger)
        assert SysvSemaphore(sibling(number, ord("R"))).value == 1  # nothing was taken


def send_for_ever(sender: Sender) -> None:
    """Send until the sender raises."""
    while True:
        sender.send(b"message", PATIENCE_SECONDS)


@pytest.mark.parametrize("mechanism", [PIPE, SOCKET])
def test_a_reader_that_left_before_it_was_met_is_noticed(
    key: Path, ledger: Path, mechanism: str
) -> None:
    with serve(mechanism, key, ledger) as sender:
        connect(mechanism, key, ledger).close()
        with pytest.raises(PeerGone):
            send_for_ever(sender)


@pytest.mark.parametrize("mechanism", [PIPE, SOCKET, FIFO])
def test_a_server_that_left_before_it_met_its_reader_is_noticed(
    key: Path, ledger: Path, mechanism: str
) -> None:
    sender = serve(mechanism, key, ledger)
    with connect(mechanism, key, ledger) as receiver:
        sender.close()
        with pytest.raises(PeerGone):
            receiver.receive(PATIENCE_SECONDS)


def test_a_pipe_of_the_parent_is_moved_and_stays_blocking_for_others() -> None:
    reading, writing = os.pipe()
    shared = os.dup(writing)
    with sender_of(writing) as sender, receiver_of(reading) as receiver:
        assert os.get_blocking(shared)
        os.close(shared)
        sender.send(b"message")
        sender.finish()
        assert receiver.receive(PATIENCE_SECONDS) == b"message"
        assert receiver.receive(PATIENCE_SECONDS) is None
    os.close(reading)
    os.close(writing)
