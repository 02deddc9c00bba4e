"""People who are connected to a daemon of `echo` workers, for as long as a test lasts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.supervisor.conftest import StartDaemon
    from tests.supervisor.daemon import Daemon

PATIENT = {"quick_death_seconds": 0.001, "backoff_min_seconds": 0.01, "backoff_max_seconds": 0.02}


class Person:
    """Somebody who is connected, and which worker answered last."""

    def __init__(self, daemon: Daemon) -> None:
        self.socket = daemon.connect()
        self._lines = self.socket.makefile("rb")
        self._said = 0

    def ask(self) -> tuple[int, int]:
        """Say something and read the answer; return p_id and generation of who gave it.

        An earlier answer may come a second time if its worker was killed.
        """
        self._said += 1
        self.socket.sendall(b"%d\n" % self._said)
        said = 0
        while said != self._said:
            who, _, what = self.hear().partition(" ")
            assert said <= int(what) <= self._said
            said = int(what)
        p_id, _, generation = who.partition(".")
        return int(p_id), int(generation)

    def hear(self) -> str:
        return self._lines.readline().decode().rstrip("\n")

    def has_been_hung_up_on(self) -> bool:
        try:
            return self._lines.readline() == b""
        except ConnectionResetError:
            return True  # what he had said was not read any more

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


class Room:
    """A daemon, and people who are connected to it."""

    def __init__(self, start_daemon: StartDaemon) -> None:
        self.start_daemon = start_daemon
        self.people: list[Person] = []

    def open(self, people: int = 10, **options: object) -> Daemon:
        self.daemon = self.start_daemon("echo", **{"respawn": PATIENT, **options})
        self.daemon.wait_for("supervisor.ready")
        for _ in range(people):
            self.enter()
        return self.daemon

    def enter(self) -> Person:
        person = Person(self.daemon)
        self.people.append(person)
        person.ask()
        return person

    def ask_all(self) -> set[tuple[int, int]]:
        """Ask everybody; return which workers have answered."""
        return {person.ask() for person in self.people}

    def close(self) -> None:
        for person in self.people:
            person.close()


def until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
