"""What every channel promises, whatever carries it: between real processes, all six alike."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from prefork_chat.channels.channel import MAX_MESSAGE_BYTES, Receiver, Sender
from prefork_chat.channels.errors import (
    ChannelTaken,
    ChannelTimeout,
    MessageTooLong,
    NoServer,
    PeerGone,
    StaleObject,
)
from prefork_chat.channels.mechanisms import MECHANISMS, clean, connect, list_channels, serve
from prefork_chat.channels.names import ALL
from tests.channels.traces import traces
from tests.registry.processes import child, kill, until, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_SECONDS: Final = 20.0
"""For what takes milliseconds on an idle machine."""

LENGTHS: Final = (0, 1, 63, 64, 4095, 4096, 8191, 8192, 8193, 65535, 65536, 0, 3)


class Side:
    """How a test makes the ends of its channel, and what it writes to say how far it got."""

    def __init__(self, mechanism: str, key: Path, ledger: Path) -> None:
        self.mechanism, self.key, self.ledger = mechanism, key, ledger
        self._reading, self._writing = os.pipe()

    def serve(self) -> Sender:
        return serve(self.mechanism, self.key, self.ledger)

    def connect(self) -> Receiver:
        return connect(self.mechanism, self.key, self.ledger, PATIENCE_SECONDS)

    def tell(self) -> None:
        """In the child: say that it has got here."""
        os.write(self._writing, b".")

    def wait_until_told(self) -> None:
        """In the test: wait for `tell`."""
        assert os.read(self._reading, 1) == b"."

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


@pytest.fixture
def side(mechanism: str, key: Path, ledger: Path) -> Iterator[Side]:
    side = Side(mechanism, key, ledger)
    yield side
    side.close()


@contextmanager
def server(side: Side, body: Callable[[Sender], object]) -> Iterator[int]:
    """A process that serves; its channel is closed when `body` returns."""

    def run() -> None:
        with side.serve() as sender:
            body(sender)

    with child(run) as pid:
        yield pid


@contextmanager
def reader(side: Side, body: Callable[[Receiver], object]) -> Iterator[int]:
    """A process that reads."""

    def run() -> None:
        with side.connect() as receiver:
            body(receiver)

    with child(run) as pid:
        yield pid


def stay(_: object) -> None:
    """Do nothing until killed."""
    signal.pause()


def send_for_ever(sender: Sender, timeout: float | None) -> None:
    """Send until the sender raises."""
    while True:
        sender.send(b"x" * 1000, timeout)


def messages() -> list[bytes]:
    """Return a message of each length, in which every byte has its place."""
    return [(bytes((n + i) % 251 for i in range(251)) * 262)[:n] for n in LENGTHS]


def test_messages_of_all_lengths_arrive_whole_and_in_order(side: Side) -> None:
    def send_all(sender: Sender) -> None:
        for message in messages():
            sender.send(message)
        sender.finish()

    with server(side, send_all) as pid, side.connect() as receiver:
        assert [receiver.receive(PATIENCE_SECONDS) for _ in LENGTHS] == messages()
        assert receiver.receive(PATIENCE_SECONDS) is None
        assert receiver.receive(0) is None  # and so for ever
        assert wait(pid) == 0


def test_many_messages_wait_for_a_slow_reader_and_none_is_lost(side: Side) -> None:
    count = 3000

    def send_all(sender: Sender) -> None:
        for number in range(count):
            sender.send(b"%d " % number * 100)
        sender.finish()

    with server(side, send_all) as pid, side.connect() as receiver:
        for number in range(count):
            assert receiver.receive(PATIENCE_SECONDS) == b"%d " % number * 100
        assert receiver.receive(PATIENCE_SECONDS) is None
        assert wait(pid) == 0


def test_a_message_too_long_is_refused_and_the_next_one_goes(side: Side) -> None:
    def send_all(sender: Sender) -> None:
        with pytest.raises(MessageTooLong, match="65,537 bytes"):
            sender.send(b"x" * (MAX_MESSAGE_BYTES + 1))
        sender.send(b"short")
        sender.finish()

    with server(side, send_all) as pid, side.connect() as receiver:
        assert receiver.receive(PATIENCE_SECONDS) == b"short"
        assert receiver.receive(PATIENCE_SECONDS) is None
        assert wait(pid) == 0


@pytest.mark.parametrize("timeout", [0, 0.05, 0.3])
def test_receiving_nothing_ends_in_time_and_loses_nothing(side: Side, timeout: float) -> None:
    go_reading, go_writing = os.pipe()

    def send_later(sender: Sender) -> None:
        sender.wait_for_client()
        os.read(go_reading, 1)
        sender.send(b"late")
        sender.finish()

    with server(side, send_later) as pid, side.connect() as receiver:
        with pytest.raises(ChannelTimeout):
            receiver.receive(timeout)
        os.write(go_writing, b".")
        assert receiver.receive(PATIENCE_SECONDS) == b"late"
        assert receiver.receive(PATIENCE_SECONDS) is None
        assert wait(pid) == 0
    os.close(go_reading)
    os.close(go_writing)


@pytest.mark.parametrize("length", [10, MAX_MESSAGE_BYTES])
def test_a_full_channel_refuses_and_what_it_accepted_arrives(side: Side, length: int) -> None:
    """The bound: a reader that does not read costs a few megabytes at most."""
    # How many were accepted is known when the reader is there already.
    number_reading, number_writing = os.pipe()

    def read_all(receiver: Receiver) -> None:
        accepted = int(os.read(number_reading, 20))
        for count in range(accepted):
            assert receiver.receive(PATIENCE_SECONDS) == b"%10d" % count * (length // 10)
        assert receiver.receive(PATIENCE_SECONDS) is None

    with side.serve() as sender, reader(side, read_all) as pid:
        sender.wait_for_client(PATIENCE_SECONDS)
        sent = 0
        while sent * length < 64 << 20:
            try:
                sender.send(b"%10d" % sent * (length // 10), 0)
            except ChannelTimeout:
                break
            sent += 1
        with pytest.raises(ChannelTimeout):
            sender.send(b"x" * length, 0.05)
        assert sent * length <= 4 << 20
        os.write(number_writing, b"%d" % sent)
        sender.finish(PATIENCE_SECONDS)
        assert wait(pid) == 0
    os.close(number_reading)
    os.close(number_writing)


def test_finishing_ends_in_time_when_nobody_reads_and_can_be_tried_again(side: Side) -> None:
    with side.serve() as sender:
        with pytest.raises(ChannelTimeout):
            sender.wait_for_client(0)
        with pytest.raises(ChannelTimeout):
            sender.wait_for_client(0.05)
        for _ in range(2):
            with pytest.raises(ChannelTimeout):
                sender.finish(0.05)
        with reader(side, lambda receiver: receiver.receive(PATIENCE_SECONDS)) as pid:
            sender.finish(PATIENCE_SECONDS)
            assert wait(pid) == 0


def test_a_reader_that_waits_learns_that_its_server_was_killed(side: Side) -> None:
    def send_and_stay(sender: Sender) -> None:
        sender.send(b"before")
        sender.wait_for_client()
        side.tell()
        signal.pause()

    with server(side, send_and_stay) as pid, side.connect() as receiver:
        side.wait_until_told()
        assert receiver.is_peer_alive()
        kill(pid)
        assert receiver.receive(PATIENCE_SECONDS) == b"before"
        with pytest.raises(PeerGone):
            receiver.receive(PATIENCE_SECONDS)
        assert not receiver.is_peer_alive()
    assert [listed.is_leftover for listed in list_channels(side.ledger)] == [True]
    assert [error for _, error in clean(side.ledger)] == [None]


def test_a_reader_blocked_in_receive_learns_that_its_server_was_killed(side: Side) -> None:
    def read_until_gone(receiver: Receiver) -> None:
        side.tell()
        with pytest.raises(PeerGone):
            receiver.receive()

    with server(side, stay) as serving, reader(side, read_until_gone) as reading:
        side.wait_until_told()
        kill(serving)
        assert wait(reading) == 0
    assert len(list(clean(side.ledger))) == 1


def test_a_server_that_waits_for_other_things_can_ask_for_its_reader(side: Side) -> None:
    def come(receiver: Receiver) -> None:
        with pytest.raises(ChannelTimeout):
            receiver.receive(0.01)
        side.tell()
        signal.pause()

    with side.serve() as sender:
        assert sender.is_peer_alive()  # it has not come yet
        with reader(side, come) as pid:
            sender.wait_for_client(PATIENCE_SECONDS)
            side.wait_until_told()
            assert sender.is_peer_alive()
            kill(pid)
            until(lambda: not sender.is_peer_alive())


def test_a_server_blocked_in_send_learns_that_its_reader_was_killed(side: Side) -> None:
    def fill_and_go_on(sender: Sender) -> None:
        sender.wait_for_client()
        with pytest.raises(ChannelTimeout):
            send_for_ever(sender, 0)
        side.tell()
        with pytest.raises(PeerGone):
            send_for_ever(sender, None)

    with server(side, fill_and_go_on) as serving:
        with reader(side, stay) as reading:
            side.wait_until_told()
            kill(reading)
        assert wait(serving) == 0


def test_a_reader_that_closes_early_is_told_from_one_that_has_all(side: Side) -> None:
    def take_one(receiver: Receiver) -> None:
        assert receiver.receive(PATIENCE_SECONDS) == b"one"

    with side.serve() as sender, reader(side, take_one) as pid:
        sender.send(b"one")
        sender.wait_for_client(PATIENCE_SECONDS)
        assert wait(pid) == 0
        with pytest.raises(PeerGone):
            send_for_ever(sender, PATIENCE_SECONDS)


def test_a_server_that_closes_early_is_told_from_the_end(side: Side) -> None:
    def leave_when_told(sender: Sender) -> None:
        sender.wait_for_client()
        side.wait_until_told()

    with server(side, leave_when_told) as pid:
        with side.connect() as receiver:
            with pytest.raises(ChannelTimeout):
                receiver.receive(0.01)
            side.tell()
            with pytest.raises(PeerGone):
                receiver.receive(PATIENCE_SECONDS)
        assert wait(pid) == 0


def test_signals_interrupt_nothing(side: Side) -> None:
    count, pulses = 400, [0]

    def beat() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: pulses.__setitem__(0, pulses[0] + 1))

    def send_all(sender: Sender) -> None:
        beat()
        side.tell()
        for number in range(count):
            sender.send(b"%5d" % number * 5000)
        sender.finish()

    def read_all(receiver: Receiver) -> None:
        beat()
        side.tell()
        for number in range(count):
            assert receiver.receive() == b"%5d" % number * 5000
        assert receiver.receive() is None

    with server(side, send_all) as serving, reader(side, read_all) as reading:
        side.wait_until_told()
        side.wait_until_told()
        unfinished = {serving, reading}
        while unfinished:
            for pid in sorted(unfinished):
                os.kill(pid, signal.SIGUSR1)
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    unfinished.remove(pid)
                    assert os.waitstatus_to_exitcode(status) == 0


def test_a_signal_handler_that_raises_ends_a_wait(side: Side) -> None:
    def wait_in_vain(receiver: Receiver) -> None:
        def raise_heard(*_: object) -> None:
            raise InterruptedError

        signal.signal(signal.SIGUSR1, raise_heard)
        with pytest.raises(InterruptedError):  # noqa: PT012 - it may come as soon as told
            side.tell()
            receiver.receive()

    with side.serve() as sender, reader(side, wait_in_vain) as pid:
        sender.wait_for_client(PATIENCE_SECONDS)
        side.wait_until_told()
        os.kill(pid, signal.SIGUSR1)
        assert wait(pid) == 0


def test_there_is_one_server_and_one_reader(side: Side) -> None:
    with side.serve() as sender, reader(side, partial(_tell_and_stay, side)) as pid:
        sender.wait_for_client(PATIENCE_SECONDS)
        side.wait_until_told()
        with pytest.raises(ChannelTaken, match=f"already: pid {os.getpid()}"):
            side.serve()
        with pytest.raises(ChannelTaken, match=f"by pid {pid}"):
            connect(side.mechanism, side.key, side.ledger)


def test_without_a_server_there_is_nothing_to_read(side: Side) -> None:
    with pytest.raises(NoServer, match=side.mechanism):
        connect(side.mechanism, side.key, side.ledger)


def test_what_a_killed_server_left_is_named_and_the_next_one_takes_over(side: Side) -> None:
    with server(side, partial(_tell_and_stay, side)) as pid:
        side.wait_until_told()
        kill(pid)
    with pytest.raises(StaleObject, match=rf"pid {pid}\) is dead"):
        connect(side.mechanism, side.key, side.ledger)

    def send_new(sender: Sender) -> None:
        sender.send(b"new")
        sender.finish()

    with server(side, send_new) as pid:
        with side.connect() as receiver:
            assert receiver.receive(PATIENCE_SECONDS) == b"new"
            assert receiver.receive(PATIENCE_SECONDS) is None
        assert wait(pid) == 0


def test_closing_twice_does_no_harm(side: Side) -> None:
    sender = side.serve()
    receiver = side.connect()
    for _ in range(2):
        receiver.close()
        sender.close()


def test_killed_at_any_moment_nobody_hangs_and_all_can_be_removed(side: Side) -> None:
    """The moment moves through the transfer, from before it begins to after its end."""
    for killed_after in (0, 1, 2, 7, 40):
        for killed in (0, 1):
            with ExitStack() as stack:
                read = partial(_read_some, side, killed_after)
                pids = [
                    stack.enter_context(server(side, _send_megabytes)),
                    stack.enter_context(reader(side, read)),
                ]
                side.wait_until_told()
                os.kill(pids[killed], signal.SIGKILL)
                assert wait(pids[killed]) in {0, -signal.SIGKILL}  # it may have ended before
                assert wait(pids[1 - killed]) == 0
            for _, error in clean(side.ledger):
                assert error is None
            assert not traces(side.key, side.ledger)


def _tell_and_stay(side: Side, _: object) -> None:
    side.tell()
    signal.pause()


def _send_megabytes(sender: Sender) -> None:
    try:
        for _ in range(60):
            sender.send(b"x" * 50_000)
        sender.finish()
    except PeerGone:
        pass


def _read_some(side: Side, told_after: int, receiver: Receiver) -> None:
    count = 0
    try:
        while True:
            if count == told_after:
                side.tell()
            if receiver.receive() is None:
                break
            count += 1
    except PeerGone:
        pass


def test_killed_servers_can_be_cleaned_up_without_a_reader(side: Side) -> None:
    with server(side, partial(_tell_and_stay, side)) as pid:
        side.wait_until_told()
        assert list(clean(side.ledger)) == []  # it lives: not touched
        kill(pid)
    assert len(traces(side.key, side.ledger)) >= 1
    (listed, error) = next(iter(clean(side.ledger)))
    assert (listed.mechanism, listed.server_pid, error) == (side.mechanism, pid, None)


def test_the_table_has_every_name_in_order() -> None:
    assert tuple(MECHANISMS) == ALL
