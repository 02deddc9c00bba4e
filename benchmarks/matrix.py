"""What the daemon's own switches cost: workers x threads, and one switch at a time. Tables only.

The grid is measured without receipts, so that it shows the loops and not the answers; costs are
differences from the daemon as its users run it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from benchmarks import daemon
from benchmarks.load import Load
from benchmarks.turns import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.contestants import Cpus

WORKERS: Final = (1, 2, 4)
THREADS: Final = (1, 2, 4, 8)
# Of one loop there is nothing to take turns with.
_VARIANTS: Final[tuple[tuple[str, dict[str, str], tuple[int, ...]], ...]] = (
    ("turn lock", {}, THREADS),
    ("no turn lock", {"server.turn_lock": "false"}, THREADS[1:]),
    ("turn lock, pinned", {"server.pin_cpu": "true"}, THREADS),
)
LOADS: Final = {
    "direct-200x32": Load(),
    "direct-200x1": Load(in_flight=1),
}

# Name, what is changed, and whether messages are answered.
_SWITCHES: Final[tuple[tuple[str, dict[str, str], bool], ...]] = (
    ("defaults", {}, True),
    ("no receipts", {}, False),
    ("fast", {"server.durability": '"fast"'}, True),
    ("fast, no receipts", {"server.durability": '"fast"'}, False),
    ("no turn lock", {"server.turn_lock": "false"}, True),
    ("pinned", {"server.pin_cpu": "true"}, True),
    ("clients in all loops", {"server.loop_clients": "0"}, True),
    ("one worker, one thread", {"server.workers": "1", "server.threads": "1"}, True),
)

# What the history costs shows only where it has something to keep: between accounts, and in rooms.
_ACCOUNTS: Final = Load(password="correct horse battery", receipts=True)
_KEPT_LOADS: Final = {
    "accounts-200x32": _ACCOUNTS,
    "accounts-200x1": replace(_ACCOUNTS, in_flight=1),
    "room-200": Load(talkers=16, in_flight=8, room=True, receipts=True),
}
_KEPT_SWITCHES: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("defaults", {}),
    ("no history", {"history.enabled": "false"}),
)


def grid(options: Mapping[str, str], cpus: Cpus) -> list[Job]:
    """Return workers x threads, in three variants, under both loads."""
    return [
        _job(title, {**options, **changed, **_shape(workers, threads)}, cpus, load_name, load)
        for load_name, load in LOADS.items()
        for title, changed, thread_counts in _VARIANTS
        for workers in WORKERS
        for threads in thread_counts
    ]


def costs(options: Mapping[str, str], cpus: Cpus) -> list[Job]:
    """Return the defaults, and the daemon with one thing changed, under loads that show it."""
    switched = [
        _job(title, {**options, **changed}, cpus, load_name, replace(load, receipts=receipts))
        for load_name, load in LOADS.items()
        for title, changed, receipts in _SWITCHES
    ]
    kept = [
        _job(title, {**options, **changed}, cpus, load_name, load)
        for load_name, load in _KEPT_LOADS.items()
        for title, changed in _KEPT_SWITCHES
    ]
    return [*switched, *kept]


def _shape(workers: int, threads: int) -> dict[str, str]:
    """Return the options of a shape, with clients in all of its loops."""
    return {
        "server.workers": str(workers),
        "server.threads": str(threads),
        "server.loop_clients": "0",
    }


def _job(title: str, options: dict[str, str], cpus: Cpus, load_name: str, load: Load) -> Job:
    return Job(
        server="prefork_chat",
        title=title,
        load_name=load_name,
        load=load,
        start=lambda _: daemon.serve(options, "tcp", cpus),
        options=options,
    )
