"""What an operator does to a real daemon while people talk: not one line is lost or doubled."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from prefork_chat import log
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

PEOPLE: Final = 12
MOST_ROUNDS: Final = 100_000


class Circle:
    """People who all talk to their neighbour, line after line, and count what they hear."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.people = {
            f"person{number}": daemon.join(f"person{number}") for number in range(PEOPLE)
        }
        self._rounds = 0

    def go_round(self) -> None:
        """Let everybody say one line; check that it is heard and answered, once and in order."""
        names = list(self.people)
        neighbours = dict(zip(names, names[1:] + names[:1], strict=True))
        self._rounds += 1
        for name, neighbour in neighbours.items():
            self.people[name].send(f"CHAT {neighbour} {self._rounds}")
        heard = {name: set(person.read_lines(2)) for name, person in self.people.items()}
        for name, neighbour in neighbours.items():
            assert f"OK CHAT {neighbour}" in heard[name], heard[name]
            assert f"CHAT {name} {self._rounds}" in heard[neighbour], heard[neighbour]

    def talk_until(self, is_over: Callable[[], bool]) -> None:
        """Go round and round until it is over, and once more."""
        for _ in range(MOST_ROUNDS):
            self.go_round()
            if is_over():
                self.go_round()
                return
        raise AssertionError(f"it takes too long:\n{self._daemon.log}")

    def leave(self) -> None:
        for person in self.people.values():
            person.expect_nothing()
            person.leave()


def has_logged(daemon: Daemon, event: str, count: int = 1, **fields: object) -> Callable[[], bool]:
    return lambda: len(daemon.log.events(event, **fields)) >= count


def has_ended(process: subprocess.Popen[str]) -> Callable[[], bool]:
    return lambda: process.poll() is not None


def ctl(daemon: Daemon, *order: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prefork_chat", "ctl", "--runtime-dir", str(daemon.directory)]
    return subprocess.Popen([*command, *order], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("durability", ["exact", "fast"])
def test_people_talk_through_reloads(start_daemon: StartDaemon, durability: str) -> None:
    daemon = start_daemon(workers=3, durability=durability)
    circle = Circle(daemon)
    for count in range(1, 4):
        daemon.signal(signal.SIGHUP)
        circle.talk_until(has_logged(daemon, log.REPLACEMENT_FINISHED, count))
    assert [daemon.generation(p_id) for p_id in range(3)] == [4, 4, 4]
    circle.leave()


def test_people_talk_through_upgrades(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    circle = Circle(daemon)
    for count in range(1, 4):
        daemon.signal(signal.SIGUSR2)
        circle.talk_until(has_logged(daemon, log.REPLACEMENT_FINISHED, count))
    assert len(daemon.log.events(log.SUPERVISOR_RESUMED)) == 3
    circle.leave()


def test_people_talk_while_workers_are_recycled_by_hand(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    circle = Circle(daemon)
    for p_id in (0, 1, 0):
        with ctl(daemon, "recycle", str(p_id)) as recycling:
            circle.talk_until(has_ended(recycling))
            assert recycling.returncode == 0
    circle.leave()


def test_a_worker_more_takes_its_share_of_those_who_come(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1)
    circle = Circle(daemon)
    daemon.signal(signal.SIGTTIN)
    circle.talk_until(has_logged(daemon, log.WORKER_READY, p_id=1))
    newcomers = [daemon.connect() for _ in range(4)]
    assert 1 in [daemon.worker_of(newcomer) for newcomer in newcomers]
    circle.leave()


def test_clients_are_listed_by_name(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    people: list[LineClient] = [daemon.join(name) for name in ("Alice", "bob")]
    with ctl(daemon, "--json", "clients") as listing:
        output, _ = listing.communicate(timeout=PATIENCE_SECONDS)
    assert {f'"name": "{name}"' in output for name in ("Alice", "bob")} == {True}
    for person in people:
        assert "{}:{}".format(*person.socket.getsockname()) in output


def test_a_drain_ends_when_the_last_one_has_left(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    circle = Circle(daemon)
    daemon.signal(signal.SIGQUIT)
    circle.talk_until(has_logged(daemon, log.WORKER_TOLD, 2, order="drain"))
    circle.leave()
    assert daemon.wait() == 0
