"""The store with a socket where systemd would listen, and what comes back of it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from prefork_chat.config import Config, ServerConfig
from prefork_chat.supervisor import deed as deeds
from prefork_chat.supervisor.deed import Deed
from prefork_chat.supervisor.notify import Notifier, PassedFd
from prefork_chat.supervisor.reloading import write_fixed
from prefork_chat.supervisor.reviving import revive
from prefork_chat.supervisor.store import (
    DEED,
    Store,
    client_of,
    estate_name,
    is_stored,
    stored_client,
    stored_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = Config(server=ServerConfig(workers=1, threads=1, max_workers=1))


class Systemd:
    """A socket to notify, and what a systemd would have after reading from it."""

    def __init__(self, path: Path) -> None:
        self.held: dict[str, int] = {}
        self._notifiers: list[Notifier] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def store(self, room: int, most: int = 1000) -> Store:
        """Return a store of a daemon that is told of so much room."""
        environ = {"NOTIFY_SOCKET": self.socket.getsockname(), "FDSTORE": str(room)}
        self._notifiers.append(Notifier(environ))
        return Store(self._notifiers[-1], most)

    def read(self) -> set[str]:
        """Do all that was asked for; return the names of what is held then."""
        while True:
            try:
                text, fds, _, _ = socket.recv_fds(self.socket, 4096, 8)
            except BlockingIOError:
                return set(self.held)
            lines = dict(line.split("=", 1) for line in text.decode().splitlines())
            if "FDSTORE" in lines:
                (self.held[lines["FDNAME"]],) = fds
            else:
                fd = self.held.pop(lines["FDNAME"], None)
                if fd is not None:
                    os.close(fd)

    def passed(self) -> list[PassedFd]:
        """Return what a next daemon gets, the last first, as systemd does."""
        self.read()
        return [PassedFd(os.dup(fd), name) for name, fd in reversed(self.held.items())]

    def close(self) -> None:
        for fd in self.held.values():
            os.close(fd)
        self.socket.close()
        for notifier in self._notifiers:
            notifier.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    found = Systemd(tmp_path / "notify")
    yield found
    found.close()


@pytest.fixture
def fd() -> Iterator[int]:
    with open("/dev/null", "rb") as file:
        yield file.fileno()


@pytest.fixture
def deed(tmp_path: Path) -> Deed:
    (tmp_path / "spill").mkdir()
    return Deed(
        begun_ns=0,
        runtime_dir=str(tmp_path),
        fixed=write_fixed(CONFIG),
        semaphores={},
        places=1,
        threads=1,
        listeners=0,
        files=[],
        kept=[],
        undelivered=[],
        children=[],
    )


def test_names_lead_back_to_what_they_name() -> None:
    assert estate_name(stored_name("loop.1.0.inlet")) == "loop.1.0.inlet"
    assert client_of(stored_client(12, 345)) == (12, 345)
    assert client_of(stored_name("registry")) is None
    assert estate_name(stored_client(1, 2)) is None
    assert ":" not in stored_name("loop.1.0.inlet") + stored_client(12, 345)


@pytest.mark.parametrize("name", ["prefork-chat.socket", "unknown", "connection", "c1", "c1.2.3"])
def test_a_strangers_descriptor_is_no_stored_one(name: str) -> None:
    assert not is_stored(PassedFd(3, name))


def test_all_that_does_not_change_is_stored_and_the_deed_last(
    systemd: Systemd, deed: Deed, fd: int
) -> None:
    store = systemd.store(100)
    store.begin(deed, {"registry": fd, "keeper.inlet": fd})
    systemd.read()
    assert list(systemd.held) == ["estate.registry", "estate.keeper.inlet", "estate.deed"]
    content = deeds.decode(os.pread(systemd.held["estate.deed"], 1 << 16, 0))
    assert content.stored == ["estate.registry", "estate.keeper.inlet"]
    store.close()


def test_clients_are_stored_and_removed_at_a_flush(systemd: Systemd, deed: Deed, fd: int) -> None:
    store = systemd.store(100)
    store.begin(deed, {})
    store.keep(1, 7, fd)
    store.keep(2, 3, fd)
    assert systemd.read() == {"estate.deed"}
    store.flush()
    assert systemd.read() == {"estate.deed", "c1.7", "c2.3"}
    store.keep(3, 1, fd)
    store.let_go(3, 1)  # never told of
    store.let_go(1, 7)
    store.flush()
    assert systemd.read() == {"estate.deed", "c2.3"}
    assert store.next_flush_ns() is None
    store.close()
    assert systemd.read() == set()


def test_no_more_is_stored_than_the_bound(systemd: Systemd, deed: Deed, fd: int) -> None:
    store = systemd.store(100, most=4)
    store.begin(deed, {"registry": fd})
    for slot in range(5):
        store.keep(slot, 1, fd)
    store.flush()
    assert systemd.read() == {"estate.registry", "estate.deed", "c0.1", "c1.1"}
    store.let_go(0, 1)
    store.keep(9, 1, fd)
    store.flush()
    assert systemd.read() == {"estate.registry", "estate.deed", "c1.1", "c9.1"}
    store.close()


@pytest.mark.parametrize(("room", "most"), [(0, 100), (100, 0), (1, 100)])
def test_nothing_is_said_where_there_is_no_room(
    systemd: Systemd, deed: Deed, fd: int, room: int, most: int
) -> None:
    store = systemd.store(room, most)
    store.begin(deed, {"registry": fd})
    store.keep(1, 1, fd)
    store.flush()
    store.close()
    with pytest.raises(BlockingIOError):
        systemd.socket.recv(4096)


def test_what_there_is_no_room_for_now_is_said_later(systemd: Systemd, deed: Deed, fd: int) -> None:
    store = systemd.store(5000, most=5000)
    store.begin(deed, {})
    clients = 1000  # more than any queue of datagrams has by default
    for slot in range(clients):
        store.keep(slot, 1, fd)
    store.flush()
    for _ in range(clients):
        if store.next_flush_ns() is None:
            break
        systemd.read()
        store.flush()
    assert len(systemd.read()) == clients + 1
    store.close()


def test_what_was_stored_comes_back(systemd: Systemd, deed: Deed, fd: int) -> None:
    store = systemd.store(100)
    store.begin(deed, {"registry": fd})
    store.keep(4, 8, fd)
    store.flush()
    revival = revive(systemd.passed(), CONFIG)
    assert revival is not None
    assert revival.descriptors.keys() == {"registry", DEED}
    assert revival.kept[4][0] == 8
    assert set(revival.stored) == {"estate.registry", "estate.deed", "c4.8"}
    for each in {*revival.descriptors.values(), revival.kept[4][1]}:
        os.close(each)
    store.close()


def test_of_two_generations_the_newer_one_is_kept(systemd: Systemd, deed: Deed, fd: int) -> None:
    store = systemd.store(100)
    store.begin(deed, {})
    for generation in (1, 3, 2):
        store.keep(0, generation, fd)
    store.flush()
    revival = revive(systemd.passed(), CONFIG)
    assert revival is not None
    assert {slot: held[0] for slot, held in revival.kept.items()} == {0: 3}
    os.close(revival.kept[0][1])
    os.close(revival.deed_fd)
    store.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_does_not_fit_is_closed_and_not_gone_on_with(
    systemd: Systemd, deed: Deed, fd: int, tmp_path: Path
) -> None:
    store = systemd.store(100)
    store.begin(deed, {"registry": fd})
    systemd.read()
    held = dict(systemd.held)
    before = open_descriptors()
    for missing in held:
        del systemd.held[missing]
        assert revive(systemd.passed(), CONFIG) is None
        systemd.held = dict(held)
    (tmp_path / "spill").rmdir()
    assert revive(systemd.passed(), CONFIG) is None
    (tmp_path / "spill").mkdir()
    os.ftruncate(systemd.held["estate.deed"], 0)
    assert revive(systemd.passed(), CONFIG) is None
    newer = msgspec.structs.replace(deed, version=deeds.VERSION + 1, stored=[])
    os.pwrite(systemd.held["estate.deed"], deeds.encode(newer), 0)
    assert revive(systemd.passed(), CONFIG) is None
    assert open_descriptors() == before
    store.close()


def test_a_daemon_that_ended_in_order_is_not_gone_on_with(
    systemd: Systemd, deed: Deed, fd: int
) -> None:
    store = systemd.store(100)
    store.begin(deed, {"registry": fd})
    passed = systemd.passed()
    store.close()
    assert revive(passed, CONFIG) is None


def test_nothing_came_back_means_a_new_daemon() -> None:
    assert revive([], CONFIG) is None
