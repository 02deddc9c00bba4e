"""How the kernel schedules workers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.harness.processes import thread_ids

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


def test_no_thread_of_a_worker_interrupts_others_when_it_wakes(daemon: Daemon) -> None:
    with_clients = [daemon.join(f"person{number}") for number in range(4)]
    for pid in daemon.worker_pids():
        policies = {os.sched_getscheduler(thread) for thread in thread_ids(pid)}
        assert policies == {os.SCHED_BATCH}
    for client in with_clients:
        client.leave()
