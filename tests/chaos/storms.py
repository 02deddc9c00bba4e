"""The storms: who is hurt, how often and how, while a crowd talks at full speed.

A storm's `acts` is a generator that hurts somebody and yields after how many seconds it wants to go
on; the crowd's loop runs it between two turns, in the one thread of the test. `rage` starts a
daemon, lets the storm rage and returns what came of it: an `Outcome`, whose account must be exact.
"""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from prefork_chat import log
from tests.chaos.account import Account
from tests.chaos.crowd import Crowd, Manner
from tests.chaos.outcome import Outcome, adoption_ms
from tests.chaos.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.chaos.crowd import Member
    from tests.harness.daemon import Daemon, StartDaemon

_POLL_SECONDS: Final = 0.005
_MOMENT_SECONDS: Final = 0.25

_VISITORS: Final = 20
"""Who leave and come while there is one worker more: some of them come to it."""

_SLOW_READERS: Final = 6
_AT_ONCE: Final = 200
_LONG_BYTES: Final = 900
_MOST_PENDING: Final = 2500
"""Messages of 1 KB that wait for one reader."""

NOUSER: Final = b"NOUSER"
BUSY: Final = b"BUSY"
UNSURE: Final = b"UNSURE"

_STURDY: Final[dict[str, object]] = {
    "respawn_quick_death_seconds": 0.001,
    "respawn_backoff_min_seconds": 0.001,
    "respawn_backoff_max_seconds": 0.01,
    "respawn_max_crashes": 1_000_000,
}
"""Options of a daemon that is killed more often than a sound one would stand."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a storm rages. `struck` counts the signals that have hit, by what was hit."""

    daemon: Daemon
    crowd: Crowd
    rng: random.Random
    struck: Counter[str] = field(default_factory=Counter)

    @property
    def p_ids(self) -> list[int]:
        """All workers, in an order of chance."""
        p_ids = list(range(len(self.daemon.worker_pids())))
        self.rng.shuffle(p_ids)
        return p_ids

    def strike(self, p_id: int, number: signal.Signals = signal.SIGKILL) -> int:
        """Hurt the present worker of `p_id`, if it lives; return its generation."""
        spawned = self.daemon.log.events(log.WORKER_SPAWNED, p_id=p_id)[-1]
        generation = int(spawned["generation"])
        ready = self.daemon.log.events(log.WORKER_READY, p_id=p_id, generation=generation)
        self._strike(spawned["pid"], "worker" if ready else "adopting worker", number)
        return generation

    def strike_holder(self) -> None:
        """Kill who holds the accept semaphore, if it is held just now."""
        pid = self.daemon.objects.semaphore("accept").holder_pid()
        if pid:
            self._strike(pid, "accepting worker")

    def order(self, number: signal.Signals, what: str) -> None:
        """Send a signal to the supervisor."""
        self.daemon.signal(number)
        self.struck[what] += 1

    def until_ready(self, p_id: int, generation: int) -> Iterator[float]:
        """Wait, as acts do, until the worker `generation` of `p_id` serves."""
        while not self.daemon.log.events(log.WORKER_READY, p_id=p_id, generation=generation):
            yield _POLL_SECONDS

    def until_spawned(self, p_id: int, generation: int) -> Iterator[float]:
        """Wait, as acts do, until the worker `generation` of `p_id` has been forked."""
        while self.daemon.generation(p_id) < generation:
            yield _POLL_SECONDS

    def _strike(self, pid: int, what: str, number: signal.Signals = signal.SIGKILL) -> None:
        if self.daemon.strike(pid, number):
            self.struck[what] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """One kind of bad weather.

    `options` are the daemon's, `tolerated` and `is_ordered` the account's.
    `events`: what the daemon may complain of, a replacement that our stop interrupts among it;
    `is_local`: on a Unix socket instead of TCP; `room_sizes`: of rooms in which people are from the
    beginning, for each size as many as it takes for everybody to be in one.
    """

    what: str
    acts: Callable[[Site], Iterator[float]]
    people: int = 200
    options: Mapping[str, object] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    tolerated: frozenset[bytes] = frozenset()
    is_local: bool = False
    is_ordered: bool = True
    room_sizes: tuple[int, ...] = ()


def reload(site: Site) -> Iterator[float]:
    """Have the configuration reloaded, time and again: all workers are replaced."""
    yield from _order(site, signal.SIGHUP, "reload", log.REPLACEMENT_FINISHED)


def upgrade(site: Site) -> Iterator[float]:
    """Have the daemon become another program, time and again, in the same process."""
    yield from _order(site, signal.SIGUSR2, "upgrade", log.REPLACEMENT_FINISHED)


def grow_and_shrink(site: Site) -> Iterator[float]:
    """Have one worker more, and one fewer again: the last one moves its clients to the others."""
    events = site.daemon.log
    while True:
        ready = len(events.events(log.WORKER_READY))
        site.order(signal.SIGTTIN, "grow")
        while len(events.events(log.WORKER_READY)) == ready:
            yield _POLL_SECONDS
        for _ in range(_VISITORS):
            site.crowd.leave(site.rng.choice(site.crowd.members))
            site.crowd.connect(takes_part=True)
        yield site.rng.uniform(0.02, 0.1)
        ended = len(events.events(log.WORKER_EXITED))
        site.order(signal.SIGTTOU, "shrink")
        while len(events.events(log.WORKER_EXITED)) == ended:
            yield _POLL_SECONDS


def move_rooms(site: Site) -> Iterator[float]:
    """Have one worker more and one fewer again, while some talk in a room who are partly there."""
    yield from _move_rooms(site, lambda: None)


def move_rooms_and_kill(site: Site) -> Iterator[float]:
    """The same, and kill the one that leaves, or one that it moves people to, on the way."""
    yield from _move_rooms(site, lambda: site.strike(site.p_ids[0]))


def _move_rooms(site: Site, hurt: Callable[[], object]) -> Iterator[float]:
    events, crowd = site.daemon.log, site.crowd
    for round_ in itertools.count():
        ready = len(events.events(log.WORKER_READY))
        site.order(signal.SIGTTIN, "grow")
        while len(events.events(log.WORKER_READY)) == ready:
            yield _POLL_SECONDS
        visitors: list[Member] = []
        yield from _meet(crowd, b"#visit.%d" % round_, visitors)
        yield site.rng.uniform(0.02, 0.1)
        left = len(events.events(log.WORKER_EXITED, meaning="left"))
        site.order(signal.SIGTTOU, "shrink")
        yield site.rng.uniform(0.0, 0.02)
        hurt()
        while len(events.events(log.WORKER_EXITED, meaning="left")) == left:
            yield _POLL_SECONDS
        yield site.rng.uniform(0.0, 0.05)
        for visitor in visitors:
            crowd.fall_silent(visitor)
        while not all(visitor.person.is_settled for visitor in visitors):
            yield _POLL_SECONDS
        for visitor in visitors:
            crowd.leave(visitor)


def _meet(crowd: Crowd, room: bytes, visitors: list[Member]) -> Iterator[float]:
    """Let people connect, enter a room and then talk; they are added to `visitors`."""
    visitors += [crowd.connect() for _ in range(_VISITORS)]
    while any(visitor.person.open for visitor in visitors):
        yield _POLL_SECONDS
    for visitor in visitors:
        crowd.enter(visitor, room)
        while visitor.person.open:
            yield _POLL_SECONDS
    for visitor in visitors:
        crowd.take_part(visitor)


def reload_and_kill(site: Site) -> Iterator[float]:
    """Reload without waiting for the end of the last one, and kill workers in the middle of it."""
    while True:
        for _ in range(site.rng.randint(1, 3)):
            site.order(signal.SIGHUP, "reload")
            yield site.rng.uniform(0.0, 0.05)
        site.strike(site.p_ids[0])
        yield site.rng.uniform(0.1, 0.3)


def _order(site: Site, number: signal.Signals, what: str, finished: str) -> Iterator[float]:
    while True:
        yield site.rng.uniform(0.0, 0.05)
        count = len(site.daemon.log.events(finished))
        site.order(number, what)
        while len(site.daemon.log.events(finished)) == count:
            yield _POLL_SECONDS


def calm(_site: Site) -> Iterator[float]:
    """Do no harm: what the crowd finds then is the crowd's fault."""
    yield from ()


def kill(site: Site) -> Iterator[float]:
    """Kill a worker every now and then, whatever it does."""
    while True:
        yield site.rng.uniform(0.1, 0.5)
        site.strike(site.p_ids[0])


def kill_while_adopting(site: Site) -> Iterator[float]:
    """Kill a worker, and some of its successors right after their birth."""
    while True:
        yield site.rng.uniform(0.05, 0.2)
        p_id = site.p_ids[0]
        for _ in range(site.rng.randint(2, 5)):
            generation = site.strike(p_id)
            yield from site.until_spawned(p_id, generation + 1)
            yield site.rng.uniform(0, 0.015)


def kill_two(site: Site) -> Iterator[float]:
    """Kill two workers at once."""
    while True:
        yield site.rng.uniform(0.1, 0.4)
        for p_id in site.p_ids[:2]:
            site.strike(p_id)


def kill_all(site: Site) -> Iterator[float]:
    """Kill all workers at once."""
    while True:
        yield site.rng.uniform(0.1, 0.4)
        for p_id in site.p_ids:
            site.strike(p_id)


def kill_accepting(site: Site) -> Iterator[float]:
    """Kill whoever holds the accept semaphore, while somebody connects and somebody leaves."""
    while True:
        yield site.rng.uniform(0.05, 0.2)
        newcomer = site.crowd.connect()
        site.strike_holder()
        while newcomer.person.open:
            yield _POLL_SECONDS
        site.crowd.leave(newcomer)


def freeze(site: Site) -> Iterator[float]:
    """Stop a worker, and let the watchdog find out."""
    while True:
        yield site.rng.uniform(0.1, 0.3)
        p_id = site.p_ids[0]
        generation = site.strike(p_id, signal.SIGSTOP)
        yield from site.until_ready(p_id, generation + 1)


def kill_over_slow_readers(site: Site) -> Iterator[float]:
    """Kill workers while megabytes wait for people who read now and then."""
    crowd, rng = site.crowd, site.rng
    readers = [crowd.connect(is_slow=True) for _ in range(_SLOW_READERS)]
    writers = [crowd.connect() for _ in readers]
    while any(member.person.open for member in readers + writers):
        yield _POLL_SECONDS
    for reader in readers:
        crowd.hold_still(reader)
    while True:
        for writer, reader in zip(writers, readers, strict=True):
            if len(reader.person.arriving) < _MOST_PENDING:
                crowd.chat(writer, reader, _AT_ONCE, filler_bytes=_LONG_BYTES)
        yield rng.uniform(0.1, 0.3)
        site.strike(site.p_ids[0])
        reader = rng.choice(readers)
        crowd.read_on(reader)
        yield rng.uniform(0.001, 0.02)
        crowd.hold_still(reader)


def come_and_go(site: Site) -> Iterator[float]:
    """Let people leave in the middle of a talk and others come, so that workers are recycled."""
    while True:
        yield site.rng.uniform(0.0, 0.02)
        leaver = site.rng.choice(site.crowd.members)
        site.crowd.leave(leaver)
        site.crowd.connect(takes_part=True)


STORMS: Final[Mapping[str, Storm]] = {
    "calm": Storm(what="nobody is hurt", acts=calm),
    "kill": Storm(what="a worker is killed every 0.1 to 0.5 s", acts=kill),
    "adopting": Storm(what="workers are killed while they adopt", acts=kill_while_adopting),
    "two": Storm(what="two of three workers at once", acts=kill_two, options={"workers": 3}),
    "all": Storm(what="all workers at once", acts=kill_all),
    "accepting": Storm(what="the accept semaphore's holder is killed", acts=kill_accepting),
    "freeze": Storm(
        what="a worker is stopped until the watchdog kills it",
        acts=freeze,
        options={"watchdog_seconds": 0.5},
        events=(log.WORKER_STUCK, log.WORKER_KILLED),
    ),
    "slow": Storm(
        what="workers are killed while megabytes wait for slow readers",
        acts=kill_over_slow_readers,
        people=20,
        options={"limits_client_pending_bytes": 4_000_000},
        tolerated=frozenset({BUSY}),
    ),
    "unix": Storm(
        what="a worker is killed every 0.1 to 0.5 s, all clients on Unix sockets",
        acts=kill,
        is_local=True,
        tolerated=frozenset({UNSURE}),
    ),
    "rooms": Storm(
        what="a worker is killed every 0.1 to 0.5 s, while people talk in rooms",
        acts=kill,
        people=48,
        options={"workers": 3},
        room_sizes=(8, 48),
    ),
    "rooms-adopting": Storm(
        what="workers are killed while they adopt, and people talk in rooms",
        acts=kill_while_adopting,
        people=24,
        room_sizes=(4, 24),
    ),
    "rooms-resize": Storm(
        what="SIGTTIN and SIGTTOU in turns, while people talk in rooms",
        acts=move_rooms,
        people=24,
        options={"max_workers": 3},
        is_ordered=False,  # see resize
        room_sizes=(24,),
    ),
    "rooms-resize-kill": Storm(
        what="the same, and a worker is killed each time",
        acts=move_rooms_and_kill,
        people=24,
        options={"max_workers": 3},
        is_ordered=False,
        room_sizes=(24,),
    ),
    "reload": Storm(
        what="SIGHUP, again as soon as all workers are replaced",
        acts=reload,
        events=(log.REPLACEMENT_FAILED,),
    ),
    "reload-kill": Storm(
        what="SIGHUP upon SIGHUP, and workers are killed meanwhile",
        acts=reload_and_kill,
        events=(log.REPLACEMENT_FAILED,),
    ),
    "resize": Storm(
        what="SIGTTIN and SIGTTOU in turns, some people at the worker that has to leave",
        acts=grow_and_shrink,
        people=60,
        options={"max_workers": 3},
        tolerated=frozenset({NOUSER}),
        is_ordered=False,  # who is moved may get the first lines of his new place too early
    ),
    "upgrade": Storm(
        what="SIGUSR2, again as soon as all workers are replaced",
        acts=upgrade,
        events=(log.REPLACEMENT_FAILED,),
    ),
    "recycle": Storm(
        what="people come and go; a worker is replaced after 50 connections",
        acts=come_and_go,
        people=100,
        options={"connections_per_process": 50},
        tolerated=frozenset({NOUSER}),
    ),
}


def rage(
    start_daemon: StartDaemon,
    folder: Path,
    name: str,
    seconds: float,
    seed: int,
    *,
    patience_seconds: float = 0.0,
) -> Outcome:
    """Start a daemon, let the storm `name` rage for `seconds`; wait until all is quiet again.

    `folder` is for its socket. If no worker has ended by then, the storm goes on until one has, for
    at most `patience_seconds` more.
    """
    storm = STORMS[name]
    rng = random.Random(seed)
    listen = {"listen": f"unix:{folder}/chat"} if storm.is_local else {}
    daemon = start_daemon(**_STURDY, **storm.options, **listen)
    daemon.log.expect(*storm.events)
    before = Usage.of(daemon)
    account = Account(storm.tolerated, is_ordered=storm.is_ordered)
    with Crowd(daemon.addresses[0], account, rng, Manner()) as crowd:
        members = crowd.admit(storm.people)
        for size in storm.room_sizes:
            for first in range(0, len(members), size):
                crowd.gather(members[first : first + size], b"#%d.%d" % (size, first))
        site = Site(daemon, crowd, rng)
        start = time.monotonic()
        acts = storm.acts(site)
        crowd.talk(seconds, acts)
        while not daemon.log.events(log.WORKER_EXITED):
            if time.monotonic() >= start + seconds + patience_seconds:
                break
            crowd.talk(_MOMENT_SECONDS, acts)
        elapsed = time.monotonic() - start
        crowd.finish()
        crowd.close()
        leaks = before.compare(daemon, is_local=storm.is_local)
    endings = Counter(str(event["meaning"]) for event in daemon.log.events(log.WORKER_EXITED))
    title = f"storm {name}: {storm.what}"
    times = adoption_ms(daemon.log)
    return Outcome(
        title, seed, elapsed, account, crowd.cut_short, site.struck, endings, times, leaks
    )
