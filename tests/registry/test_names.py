"""The filter of registered names, and the penalties for wrong passwords, in shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.registry import penalties
from tests.registry.processes import fork, wait

if TYPE_CHECKING:
    from tests.registry.conftest import MakeRegistry

HERE, THERE = b"\x7f\0\0\1", b"\x7f\0\0\2"
NOW = 1_000_000.0


def test_a_name_is_known_in_every_process_once_it_was_added(make_registry: MakeRegistry) -> None:
    registry = make_registry()
    assert not registry.registered.may_have(b"alice")
    assert wait(fork(lambda: registry.registered.add(b"alice"))) == 0
    assert registry.registered.may_have(b"alice")
    assert not registry.registered.may_have(b"bob")


def test_few_names_are_taken_for_others(make_registry: MakeRegistry) -> None:
    registered = make_registry().registered
    for n in range(10_000):
        registered.add(b"account%d" % n)
    assert all(registered.may_have(b"account%d" % n) for n in range(10_000))
    assert sum(registered.may_have(b"guest%d" % n) for n in range(10_000)) < 300


def test_which_names_share_a_cell_is_another_secret_of_each_daemon(
    make_registry: MakeRegistry,
) -> None:
    cells = []
    for registry in (make_registry(), make_registry()):
        before = bytes(registry.registered._cells)
        registry.registered.add(b"alice")
        cells.append(bytes(registry.registered._cells).index(1))
        assert before.count(1) == 0
    assert cells[0] != cells[1]


def test_each_wrong_password_doubles_the_wait_up_to_a_bound(make_registry: MakeRegistry) -> None:
    cells = make_registry().penalties
    now = NOW
    waits = []
    for _ in range(20):
        assert cells.wait_seconds(HERE, now) == 0
        cells.punish(HERE, now)
        waits.append(round(cells.wait_seconds(HERE, now), 2))
        now += waits[-1] + 0.01
    assert waits[:6] == [0.25, 0.5, 1, 2, 4, 8]
    assert set(waits[6:]) == {penalties.LONGEST_SECONDS}
    assert cells.wait_seconds(THERE, now) == 0


def test_attempts_at_once_wait_one_behind_the_other(make_registry: MakeRegistry) -> None:
    cells = make_registry().penalties
    for _ in range(3):
        cells.punish(HERE, NOW)
    assert round(cells.wait_seconds(HERE, NOW), 2) == 0.25 + 0.5 + 1


def test_a_quiet_minute_forgives_one_of_them(make_registry: MakeRegistry) -> None:
    cells = make_registry().penalties
    now = NOW
    for _ in range(5):
        cells.punish(HERE, now)
        now += 20
    now += penalties.FORGIVEN_SECONDS * 2
    cells.punish(HERE, now)
    assert round(cells.wait_seconds(HERE, now), 2) == 2
    now += penalties.FORGIVEN_SECONDS * 100
    cells.punish(HERE, now)
    assert round(cells.wait_seconds(HERE, now), 2) == penalties.FIRST_SECONDS


def test_a_penalty_holds_in_every_process(make_registry: MakeRegistry) -> None:
    registry = make_registry()
    assert wait(fork(lambda: registry.penalties.punish(HERE, NOW))) == 0
    assert registry.penalties.wait_seconds(HERE, NOW) > 0
