"""Who asks for it is told who comes to his rooms and who goes, in a few lines, and rightly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.daemon.test_leaving import leave, start_sturdy
from tests.daemon.test_rooms import enter

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon


class Observer:
    """Somebody who keeps account of who is in #dev, by what he is told. `lines`: how many."""

    def __init__(self, client: LineClient) -> None:
        self.client = client
        self.lines = 0
        self.there: set[str] = set()
        client.ask("HELO pres", "OK HELO pres")

    def see(self, *there: str) -> None:
        """Read until these are there."""
        while self.there != set(there):
            self.take(self.client.read_line())

    def take(self, line: str) -> None:
        """Take one line into account."""
        verb, room, *names = line.split(" ")
        assert room == "#dev"
        self.lines += 1
        if verb == "HERE":
            self.there |= set(names)
        else:
            assert verb == "GONE"
            self.there -= self.there if names == ["*"] else set(names)


def test_members_who_want_to_know_are_told_who_comes_and_goes(daemon: Daemon) -> None:
    alice, bob, carol = daemon.join("Alice", 0), daemon.join("bob", 1), daemon.join("carol", 1)
    enter("#dev", bob)
    watchers = [Observer(client) for client in (alice, carol)]
    enter("#dev", alice, carol)
    watchers[0].see("bob", "carol")
    watchers[1].see("bob", "Alice")
    dave, eve = daemon.join("dave", 0), daemon.join("eve", 1)
    enter("#dev", dave, eve)
    watchers[0].see("bob", "carol", "dave", "eve")
    watchers[1].see("bob", "Alice", "dave", "eve")
    dave.ask("EXIT #dev", "OK EXIT #dev n=4")
    eve.leave()
    bob.reset()
    watchers[0].see("carol")
    watchers[1].see("Alice")
    for client in (alice, carol, dave):
        client.expect_nothing()


def test_who_does_not_ask_is_not_told(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 0)
    watcher = Observer(bob)
    enter("#dev", alice, bob)
    watcher.see("alice")
    carol = daemon.join("carol", 1)
    enter("#dev", carol)
    watcher.see("alice", "carol")
    alice.expect_nothing()


def test_who_asks_later_is_told_who_is_there(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    enter("#dev", alice, bob)
    Observer(alice).see("bob")
    alice.ask("HELO pres", "OK HELO pres")
    alice.expect_nothing()


def test_many_who_come_at_once_cost_few_lines(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    watcher = Observer(daemon.join("watcher", 0))
    enter("#dev", watcher.client)
    people = [daemon.join(f"p{n}", n % 2) for n in range(100)]
    for person in people:
        person.send("ENTR #dev")
    watcher.see(*(f"p{n}" for n in range(100)))
    assert watcher.lines <= 20
    for person in people:
        person.close()
    watcher.see()
    assert watcher.lines <= 40
    watcher.client.expect_nothing()


@pytest.mark.parametrize("is_remote", [False, True], ids=["same-worker", "other-worker"])
def test_presence_is_right_again_when_a_worker_has_been_killed(
    start_daemon: StartDaemon, is_remote: bool
) -> None:
    daemon = start_daemon(threads=1)
    watcher = Observer(daemon.join("watcher", 0))
    people = {f"p{n}": daemon.join(f"p{n}", n % 2) for n in range(6)}
    enter("#dev", watcher.client, *people.values())
    watcher.see(*people)
    victim = 1 if is_remote else 0
    with daemon.stopped_worker(victim):
        for name in ("p0", "p1"):
            people.pop(name).close()
        for name in ("p2", "p3"):
            people.pop(name).send("EXIT #dev")
        daemon.kill_worker(victim)
    watcher.see(*people)
    newcomer = daemon.join("newcomer", 1)
    enter("#dev", newcomer)
    watcher.see(*people, "newcomer")
    watcher.client.expect_nothing()


def test_presence_is_right_when_members_move(start_daemon: StartDaemon) -> None:
    daemon = start_sturdy(start_daemon)
    watchers = [Observer(daemon.join(f"w{n}", n)) for n in range(3)]
    everybody = {f"w{n}" for n in range(3)} | {"mover"}
    mover = daemon.join("mover", 2)
    enter("#dev", *(watcher.client for watcher in watchers), mover)
    for n, watcher in enumerate(watchers):
        watcher.see(*everybody - {f"w{n}"})
    leave(daemon)
    mover.leave()
    for n, watcher in enumerate(watchers):
        watcher.see(*everybody - {f"w{n}", "mover"})
