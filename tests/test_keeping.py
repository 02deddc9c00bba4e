from __future__ import annotations

import os
import resource
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from prefork_chat import keeping
from prefork_chat.keeping import NO_FD, Give, Keep, LetGo
from prefork_chat.pairs import Pair

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

SLOT, GENERATION = 0xFFFF_FFFF, 1 << 62


@pytest.fixture
def pair() -> Iterator[Pair]:
    with closing(Pair.create(4096)) as pair:
        yield pair


def fill(inlet: socket.socket) -> int:
    """Say words until the pair is full; return how many."""
    for said in range(100_000):
        try:
            keeping.let_go(inlet, LetGo(said, 1))
        except BlockingIOError:
            return said
    raise AssertionError("a pair without a bound")


def test_a_kept_descriptor_is_the_same_open_file_and_closed_on_exec(pair: Pair) -> None:
    with open(os.devnull) as file:
        keeping.keep(pair.inlet, Keep(SLOT, GENERATION, file.fileno()))
        (word,) = keeping.receive(pair.outlet)
        assert isinstance(word, Keep)
        assert (word.slot, word.generation) == (SLOT, GENERATION)
        assert os.path.sameopenfile(word.fd, file.fileno())
        assert word.fd != file.fileno()
        assert not os.get_inheritable(word.fd)
        os.close(word.fd)


def test_words_come_out_in_the_order_they_were_said(pair: Pair) -> None:
    keeping.let_go(pair.inlet, LetGo(1, 7))
    keeping.give(pair.inlet, 2, 8, 255)
    keeping.let_go(pair.inlet, LetGo(3, 9))
    heard = [keeping.receive(pair.outlet) for _ in range(3)]
    assert heard == [[LetGo(1, 7)], [Give(2, 8, 255)], [LetGo(3, 9)]]
    with pytest.raises(BlockingIOError):
        keeping.receive(pair.outlet)


def test_who_lets_go_while_the_pair_is_full_is_told_so_and_has_said_nothing(pair: Pair) -> None:
    said = fill(pair.inlet)
    with pytest.raises(BlockingIOError):
        keeping.give(pair.inlet, 1, 1, 1)
    assert [keeping.receive(pair.outlet) for _ in range(said)][-1] == [LetGo(said - 1, 1)]
    with pytest.raises(BlockingIOError):
        keeping.receive(pair.outlet)


def test_keep_waits_while_the_pair_is_full(pair: Pair) -> None:
    said = fill(pair.inlet)
    keeper = threading.Thread(target=keeping.keep, args=(pair.inlet, Keep(5, 6, 0)))
    keeper.start()
    for _ in range(said):
        keeping.receive(pair.outlet)
    keeper.join(20)
    (word,) = keeping.receive(pair.outlet)
    assert word[:2] == (5, 6)
    assert isinstance(word, Keep)
    os.close(word.fd)


def test_who_may_have_no_more_descriptors_gets_none_and_is_told_of_the_session(pair: Pair) -> None:
    keeping.keep(pair.inlet, Keep(1, 1, 0))
    keeping.deliver(pair.inlet, 2, 1, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        kept = keeping.receive(pair.outlet)
        delivered = keeping.take(pair.outlet)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (kept, delivered) == ([Keep(1, 1, NO_FD)], Keep(2, 1, NO_FD))


def test_as_many_sessions_as_a_datagram_takes_are_kept_and_let_go_together(pair: Pair) -> None:
    """Each gets its own descriptor."""
    files = [open(path) for path in (os.devnull, "/dev/zero")]  # noqa: SIM115
    words = [Keep(slot, slot + 1, files[slot % 2].fileno()) for slot in range(keeping.MOST_WORDS)]
    keeping.keep(pair.inlet, *words)
    kept = keeping.receive(pair.outlet)
    assert [word[:2] for word in kept] == [word[:2] for word in words]
    for slot, word in enumerate(kept):
        assert isinstance(word, Keep)
        assert os.path.sameopenfile(word.fd, files[slot % 2].fileno())
        os.close(word.fd)
    keeping.let_go(pair.inlet, *(LetGo(slot, generation) for slot, generation, _ in words))
    assert keeping.receive(pair.outlet) == [LetGo(*word[:2]) for word in words]
    for file in files:
        file.close()


def test_who_may_have_one_more_descriptor_gets_the_first_of_those_sent_together(pair: Pair) -> None:
    keeping.keep(pair.inlet, Keep(1, 1, 0), Keep(2, 1, 0), Keep(3, 1, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 1, hard))
    try:
        kept = keeping.receive(pair.outlet)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert kept == [Keep(1, 1, lowest_free), Keep(2, 1, NO_FD), Keep(3, 1, NO_FD)]
    os.close(lowest_free)


def test_what_is_delivered_is_taken_from_the_nursery(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        keeping.take(pair.outlet)
    keeping.deliver(pair.inlet, SLOT, GENERATION, 0)
    slot, generation, fd = keeping.take(pair.outlet)
    assert (slot, generation) == (SLOT, GENERATION)
    assert os.path.sameopenfile(fd, 0)
    os.close(fd)


def test_words_for_the_keeper_are_none_for_a_nursery_and_the_other_way_round(pair: Pair) -> None:
    keeping.let_go(pair.inlet, LetGo(1, 1))
    with pytest.raises(ValueError, match="nursery"):
        keeping.take(pair.outlet)
    keeping.deliver(pair.inlet, 1, 1, 0)
    with pytest.raises(ValueError, match="keeper"):
        keeping.receive(pair.outlet)
