"""Whether anything has come for a worker that is not there: seen, and not read."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import pytest

from prefork_chat.pairs import Pair, Pairs
from prefork_chat.supervisor.mail import Mail

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    made = [Pair.create(65536) for _ in range(9)]
    loops = tuple((made[3 + 2 * p_id], made[4 + 2 * p_id]) for p_id in range(3))
    yield Pairs(tuple(made[:3]), loops)
    for pair in made:
        pair.close()


@pytest.fixture
def mail(pairs: Pairs) -> Iterator[Mail]:
    mail = Mail(pairs)
    yield mail
    mail.close()


def is_readable(mail: Mail) -> bool:
    return bool(select.select([mail], [], [], 0)[0])


def inlets(pairs: Pairs, p_id: int) -> list[Pair]:
    return [pairs.processes[p_id], *pairs.loops[p_id]]


@pytest.mark.parametrize("which", range(3), ids=["process", "loop 0", "loop 1"])
def test_something_for_a_watched_worker_is_told_once(pairs: Pairs, mail: Mail, which: int) -> None:
    mail.watch(1)
    assert not is_readable(mail)
    inlets(pairs, 1)[which].inlet.send(b"for the next one")
    assert is_readable(mail)
    assert mail.take() == {1}
    assert not is_readable(mail), "it would wake the supervisor for ever"
    assert mail.take() == set()
    assert inlets(pairs, 1)[which].outlet.recv(100) == b"for the next one"


def test_what_has_come_before_counts(pairs: Pairs, mail: Mail) -> None:
    pairs.loops[2][1].inlet.send(b"early")
    mail.watch(2)
    assert mail.take() == {2}


def test_other_workers_are_nobodys_business(pairs: Pairs, mail: Mail) -> None:
    mail.watch(1)
    mail.watch(2)
    mail.ignore(2)
    mail.ignore(0)
    for p_id in (0, 2):
        pairs.processes[p_id].inlet.send(b"read by itself")
    assert not is_readable(mail)


def test_a_worker_that_leaves_again_is_watched_again(pairs: Pairs, mail: Mail) -> None:
    pairs.processes[1].inlet.send(b"one")
    for _ in range(3):
        mail.watch(1)
        assert mail.take() == {1}
