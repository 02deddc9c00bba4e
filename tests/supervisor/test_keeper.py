"""The keeper with real sockets, and generations as the registry would show them."""

from __future__ import annotations

import array
import os
import select
import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from prefork_chat import keeping
from prefork_chat.keeping import Keep, LetGo
from prefork_chat.pairs import Pair
from prefork_chat.supervisor.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPACITY = 8


class House:
    """A keeper, a worker's end of its pair, the nurseries of two workers, and clients."""

    def __init__(self, limit: int = 100) -> None:
        self.pair = Pair.create(131_072)
        self.nurseries = (Pair.create(4096), Pair.create(4096))
        self.keeper = Keeper(self.pair, self.nurseries, limit)
        self.generations = array.array("q", [0] * CAPACITY)
        self.clients: list[socket.socket] = []

    def welcome(self, slot: int, generation: int) -> socket.socket:
        """Have one end of a connection kept and close it; return the client's end."""
        client, served = socket.socketpair()
        client.settimeout(20)
        self.clients.append(client)
        keeping.keep(self.pair.inlet, Keep(slot, generation, served.fileno()))
        served.close()
        self.generations[slot] = generation
        return client

    def kept(self) -> dict[int, int]:
        """Return the generation that is kept of each slot."""
        self.keeper.drain()
        return {slot: generation for slot, (generation, _) in self.keeper.kept.items()}

    def prepare_fork(self) -> dict[int, int]:
        self.keeper.prepare_fork(memoryview(self.generations))
        return {slot: generation for slot, (generation, _) in self.keeper.kept.items()}

    def close(self) -> None:
        self.keeper.close()
        for pair in (self.pair, *self.nurseries):
            pair.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def house() -> Iterator[House]:
    with closing(House()) as house:
        yield house


@contextmanager
def full_house(limit: int) -> Iterator[House]:
    with closing(House(limit)) as house:
        yield house


def has_ended(client: socket.socket) -> bool:
    """Say whether nobody has the other end of the connection open."""
    return bool(select.select([client], [], [], 0)[0]) and client.recv(1) == b""


def has_filled(house: House) -> bool:
    return house.keeper.has_filled


def is_readable(house: House) -> bool:
    return bool(select.select([house.keeper], [], [], 0)[0])


def test_a_client_stays_connected_though_its_worker_has_closed_it(house: House) -> None:
    client = house.welcome(3, 1)
    assert house.kept() == {3: 1}
    assert not has_ended(client)


def test_a_client_is_let_go_when_its_session_is_over(house: House) -> None:
    client = house.welcome(3, 1)
    keeping.let_go(house.pair.inlet, LetGo(3, 1))
    assert house.kept() == {}
    assert has_ended(client)


def test_who_lets_go_of_another_session_of_the_slot_changes_nothing(house: House) -> None:
    client = house.welcome(3, 2)
    keeping.let_go(house.pair.inlet, LetGo(3, 1))
    keeping.let_go(house.pair.inlet, LetGo(4, 2))
    assert house.kept() == {3: 2}
    assert not has_ended(client)


def test_the_next_session_of_a_slot_takes_the_place_of_the_last(house: House) -> None:
    first, second = house.welcome(3, 1), house.welcome(3, 2)
    assert house.kept() == {3: 2}
    assert has_ended(first)
    assert not has_ended(second)


def test_what_is_said_late_of_an_earlier_session_is_not_kept(house: House) -> None:
    second, first, again = house.welcome(3, 2), house.welcome(3, 1), house.welcome(3, 2)
    assert house.kept() == {3: 2}
    assert not has_ended(second)
    assert has_ended(first)
    assert has_ended(again)


def test_everything_that_was_said_is_heard_before_a_fork(house: House) -> None:
    client = house.welcome(3, 1)
    said = 0
    while True:
        try:
            keeping.let_go(house.pair.inlet, LetGo(7, 1))
            said += 1
        except BlockingIOError:
            break
        if said == 100:
            house.kept()
            house.welcome(4, 1)
    assert house.prepare_fork() == {3: 1, 4: 1}
    assert not is_readable(house)
    assert not has_ended(client)


def test_sessions_that_are_over_are_let_go_before_a_fork(house: House) -> None:
    """A worker that is killed between freeing a slot and saying so."""
    clients = [house.welcome(slot, 5) for slot in range(4)]
    house.generations[1] = -5  # free
    house.generations[2] = 6  # the next session; its socket will come, or its worker is dead
    assert house.prepare_fork() == {0: 5, 3: 5}
    assert [has_ended(client) for client in clients] == [False, True, True, False]


def test_a_session_that_moves_is_sent_to_the_nursery_of_its_new_worker(house: House) -> None:
    client = house.welcome(3, 1)
    keeping.give(house.pair.inlet, 3, 1, 1)
    assert house.kept() == {3: 1}
    slot, generation, fd = keeping.take(house.nurseries[1].outlet)
    assert (slot, generation) == (3, 1)
    os.write(fd, b"here I am")
    os.close(fd)
    assert client.recv(100) == b"here I am"
    with pytest.raises(BlockingIOError):
        keeping.take(house.nurseries[0].outlet)


def test_a_session_that_is_over_is_not_sent(house: House) -> None:
    client = house.welcome(3, 1)
    keeping.let_go(house.pair.inlet, LetGo(3, 1))
    keeping.give(house.pair.inlet, 3, 1, 1)
    keeping.give(house.pair.inlet, 4, 1, 1)
    house.kept()
    with pytest.raises(BlockingIOError):
        keeping.take(house.nurseries[1].outlet)
    assert has_ended(client)


def test_a_nursery_that_is_full_gets_the_rest_when_there_is_room(house: House) -> None:
    """And nobody who waits for the keeper meanwhile is woken for nothing."""
    for slot in range(CAPACITY):
        house.welcome(slot, 1)
    rounds = 8
    house.kept()
    for _ in range(rounds):
        for slot in range(CAPACITY):
            keeping.give(house.pair.inlet, slot, 1, 0)
        house.kept()
    assert not is_readable(house), "the nursery has no room yet"
    taken: list[int] = []
    while len(taken) < rounds * CAPACITY:
        try:
            slot, _, fd = keeping.take(house.nurseries[0].outlet)
        except BlockingIOError:
            assert is_readable(house), "there is room again"
            house.keeper.drain()
            continue
        os.close(fd)
        taken.append(slot)
    assert taken == list(range(CAPACITY)) * rounds
    assert not is_readable(house)


def test_a_full_nursery_keeps_nobody_else_waiting(house: House) -> None:
    house.welcome(3, 1)
    for _ in range(50):
        keeping.give(house.pair.inlet, 3, 1, 0)
    keeping.give(house.pair.inlet, 3, 1, 1)
    house.kept()
    os.close(keeping.take(house.nurseries[1].outlet).fd)


def test_clients_beyond_the_limit_are_not_kept_and_that_is_said_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with full_house(limit=2) as house:
        for slot in range(2):
            house.welcome(slot, 1)
        house.kept()
        assert not has_filled(house)
        beyond = [house.welcome(slot, 1) for slot in range(2, 5)]
        assert house.kept() == {0: 1, 1: 1}
        assert has_filled(house)
        house.keeper.report()
        house.keeper.report()
        assert "".join(capfd.readouterr()).count("keeper.filled") == 1
        assert [has_ended(client) for client in beyond] == [True] * 3
        house.welcome(5, 1)
        house.kept()
        assert not has_filled(house)

        keeping.let_go(house.pair.inlet, LetGo(0, 1))
        house.welcome(6, 1)
        assert house.kept() == {1: 1, 6: 1}
        house.welcome(7, 1)
        house.kept()
        assert has_filled(house), "there was room in between"


def test_the_next_session_of_a_slot_is_kept_though_there_is_no_room_for_more() -> None:
    with full_house(limit=1) as house:
        first, second = house.welcome(3, 1), house.welcome(3, 2)
        assert house.kept() == {3: 2}
        assert has_ended(first)
        assert not has_ended(second)


def test_another_keeper_goes_on_with_what_is_kept_and_not_delivered_yet(house: House) -> None:
    for slot in range(CAPACITY):
        house.welcome(slot, 1)
    while not house.keeper.undelivered:
        for slot in range(CAPACITY):
            keeping.give(house.pair.inlet, slot, 1, 0)
        house.kept()
    left = house.keeper.undelivered
    assert {p_id for p_id, _, _ in left} == {0}
    taken = empty(house.nurseries[0].outlet)
    other = Pair.create(4096)
    successor = Keeper(other, house.nurseries, 100)
    successor.resume({slot: house.keeper.kept[slot] for slot in range(CAPACITY)}, left)
    assert successor.kept == house.keeper.kept
    successor.drain()
    taken += empty(house.nurseries[0].outlet)
    assert [slot for _, slot, _ in left] == taken[-len(left) :]
    assert successor.undelivered == []
    successor.close_in_child()
    other.close()


def empty(outlet: socket.socket) -> list[int]:
    """Take all that is in a nursery; return the slots."""
    slots = []
    while select.select([outlet], [], [], 0)[0]:
        slot, _, fd = keeping.take(outlet)
        os.close(fd)
        slots.append(slot)
    return slots


def test_closing_lets_go_of_all(house: House) -> None:
    clients = [house.welcome(slot, 1) for slot in range(CAPACITY)]
    house.kept()
    house.keeper.close()
    assert all(has_ended(client) for client in clients)
