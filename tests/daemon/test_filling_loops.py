"""A loop of a worker is filled before the next one gets clients."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon, StartDaemon


def test_the_next_loop_gets_those_whom_the_first_has_no_room_for(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=1, threads=2, loop_clients=3)
    names = [f"person{number}" for number in range(5)]
    people = [daemon.join(name) for name in names]
    assert loops_of(daemon) == dict(zip(names, (0, 0, 0, 1, 1), strict=True))
    for person in people[1:]:
        person.ask("CHAT person0 hello", "OK CHAT person0")
    people[0].expect(*(f"CHAT {name} hello" for name in names[1:]))


def loops_of(daemon: Daemon) -> dict[str, int]:
    """Return by name the t_id of who is there."""
    command = [sys.executable, "-m", "prefork_chat", "ctl", "--runtime-dir", str(daemon.directory)]
    listed = subprocess.run(
        [*command, "--json", "clients"], check=True, capture_output=True, timeout=PATIENCE_SECONDS
    )
    return {client["name"]: client["t_id"] for client in json.loads(listed.stdout)}
