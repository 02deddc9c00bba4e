"""Accounts talk while workers and the historian are killed: the history has each message once.

What was answered `OK` is stored and was received once; what was answered `stored` comes once, at
the next JOIN, whoever is killed meanwhile.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from prefork_chat import log
from prefork_chat.history.reading import Reader
from prefork_chat.history.schema import FILE_NAME
from tests.chaos.account import Account
from tests.chaos.crowd import Crowd, Manner
from tests.daemon.registered import PASSWORD, register
from tests.daemon.test_history import come
from tests.daemon.test_killed_historian import FAST_RESPAWN, kill_historian
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon, StartDaemon

SECONDS: Final = 6.0
PERIOD_SECONDS: Final = 0.5
PEOPLE: Final = 12
SLEEPERS: Final = 5
MESSAGES: Final = 300


def texts(daemon: Daemon) -> Counter[str]:
    """Return what the history has, once all is sorted, by text, and how often."""
    with closing(Reader(daemon.directory.parent / "state" / FILE_NAME)) as reader:
        execute = reader.connection().execute
        until(lambda: execute("SELECT count(*) FROM tail").fetchone() == (0,), "all to be sorted")
        return Counter(text for (text,) in execute("SELECT text FROM messages"))


def kill_one(daemon: Daemon, number: int) -> None:
    if number % 2:
        kill_historian(daemon)
    else:
        daemon.kill_worker(number // 2 % 2)


@contextmanager
def kills(daemon: Daemon) -> Iterator[None]:
    """Kill somebody in every period while the block runs."""
    over = threading.Event()

    def rage() -> None:
        number = 0
        while not over.wait(PERIOD_SECONDS):
            kill_one(daemon, number)
            number += 1

    thread = threading.Thread(target=rage)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_what_is_confirmed_in_a_storm_was_received_once_and_is_in_the_history_once(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=2, **FAST_RESPAWN)
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    register(daemon, *(f"p{number}" for number in range(1, PEOPLE + 1)))
    seed = random.randrange(1_000_000)
    print("seed", seed)
    account = Account()

    def acts() -> Iterator[float]:
        number = 0
        while True:
            yield PERIOD_SECONDS
            kill_one(daemon, number)
            number += 1

    manner = Manner(in_flight=8, ping_share=0.0)
    with Crowd(daemon.addresses[0], account, random.Random(seed), manner, PASSWORD) as crowd:
        crowd.admit(PEOPLE)
        crowd.talk(SECONDS, acts())
        crowd.finish()
        assert not account.troubles, account.examples
    stored = texts(daemon)
    assert account.delivered > 1000
    assert account.accepted == account.delivered == stored.total()
    assert set(stored.values()) == {1}


def test_what_was_stored_in_a_storm_comes_once_at_the_next_join(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=2, **FAST_RESPAWN)
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    sleepers = [f"s{number}" for number in range(SLEEPERS)]
    register(daemon, "alice", *sleepers)
    with come(daemon, "alice") as alice, kills(daemon):
        for number in range(MESSAGES):
            sleeper = sleepers[number % SLEEPERS]
            alice.ask(f"CHAT {sleeper} message {number}", f"OK CHAT {sleeper} stored")
        for index, sleeper in enumerate(sleepers):
            with come(daemon, sleeper) as client:
                for number in range(index, MESSAGES, SLEEPERS):
                    client.expect(f"CHAT alice message {number}")
                client.ask("PING", "OK PING")
        for sleeper in sleepers:
            with come(daemon, sleeper) as client:
                client.ask("PING", "OK PING")
    stored = texts(daemon)
    assert stored == Counter(f"message {number}" for number in range(MESSAGES))
