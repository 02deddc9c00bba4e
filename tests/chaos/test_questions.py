"""A worker killed before lines of its code while a client asks what takes a while to answer."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Final

from prefork_chat import log
from tests.chaos.traps import VICTIM, LineTrap, Place, Point, Victim
from tests.daemon.registered import PASSWORD, register
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

POINTS: Final = 30
SEED: Final = 1

NEW: Final = ("inquiries", "clerk", "registrar", "credentials", "peers", "desk", "loop")
"""Modules in which most of the points are: where a question is asked, answered and carried out."""


def test_a_kill_at_any_line_is_not_noticed_by_who_asks(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    trap = LineTrap(1, tmp_path, random.Random(SEED))
    daemon = start_daemon(
        workers=1,
        threads=1,
        respawn_quick_death_seconds=0.001,
        respawn_backoff_min_seconds=0.001,
        respawn_max_crashes=1000,
        watchdog_seconds=60,
        **trap.options,
    )
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    register(daemon, "alice0")
    bob = daemon.join("bob")
    visits: Counter[Place] = Counter()
    client = daemon.connect()
    with trap.census(victim(daemon), visits):
        play(client, bob, "alice0")
    places = sorted(place for place in visits if place[0].removesuffix(".py").endswith(NEW))
    killed = 0
    for n in range(POINTS):
        place = places[n * len(places) // POINTS]
        name = f"alice{n + 1}"  # another one: whoever changes a password again has to wait
        register(daemon, name)
        client, before = daemon.connect(), victim(daemon)
        with trap.set_for(before, Point(*place, 1 + n % visits[place])):
            play(client, bob, name)
        until(lambda: is_served(daemon), "a worker that serves")
        killed += victim(daemon).generation > before.generation
    assert killed >= POINTS // 2


def play(client: LineClient, bob: LineClient, name: str) -> None:
    """Ask, talk and leave, all in one go; every answer must come once and in order."""
    client.send(
        "PING 1",
        f"JOIN {name}",
        f"@j JOIN {name} {PASSWORD}",
        "PING 2",
        f"PASS {PASSWORD}",
        "CHAT bob hello",
        "LEAV",
    )
    client.expect("OK PING 1")
    client.expect_error("JOIN", "AUTH", name)
    client.expect(f"@j OK JOIN {name}", "OK PING 2", "OK PASS", "OK CHAT bob", "OK LEAV")
    client.expect_end()
    client.close()
    bob.expect(f"CHAT {name} hello")
    bob.expect_nothing()


def victim(daemon: Daemon) -> Victim:
    return Victim(daemon.worker_pid(VICTIM), daemon.generation(VICTIM))


def is_served(daemon: Daemon) -> bool:
    generation = daemon.generation(VICTIM)
    return bool(daemon.log.events(log.WORKER_READY, p_id=VICTIM, generation=generation))
