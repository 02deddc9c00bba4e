"""Many clients that come and go: spread over the workers, and nothing remains of them."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.harness.client import LineClient
from tests.harness.processes import fd_count, status
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import StartDaemon


def test_workers_take_turns_at_accepting(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=4)
    one_by_one = Counter(daemon.worker_of(daemon.connect()) for _ in range(80))
    assert min(one_by_one[p_id] for p_id in range(4)) >= 10, one_by_one
    burst = [LineClient.connect(daemon.addresses[0]) for _ in range(120)]
    for client in burst:
        client.expect_greeting()
    total = one_by_one + Counter(map(daemon.worker_of, burst))
    for client in burst:
        client.close()
    assert min(total[p_id] for p_id in range(4)) >= 30, total


def test_workers_may_be_bound_to_one_cpu_each(start_daemon: StartDaemon) -> None:
    cpus = os.sched_getaffinity(0)
    daemon = start_daemon(workers=2, pin_cpu=True)
    daemon.join("alice", 0)
    pinned = [os.sched_getaffinity(pid) for pid in daemon.worker_pids()]
    assert all(len(one) == 1 and one <= cpus for one in pinned)
    assert len(cpus) == 1 or pinned[0] != pinned[1]
    assert os.sched_getaffinity(daemon.pid) == cpus


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_clients_that_have_gone_leave_nothing_in_the_workers(
    start_daemon: StartDaemon, tmp_path: Path, family: str
) -> None:
    daemon = start_daemon(listen=["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"])
    address = daemon.addresses[family == "unix"]
    pids = [daemon.pid, *daemon.worker_pids()]
    clerks = [0, 1, 1] if family == "unix" else [0, 0, 0]  # of workers that asked who a user is
    expected = [
        (fd_count(pid), status(pid).threads + n) for pid, n in zip(pids, clerks, strict=True)
    ]
    for n in range(100):
        endings = (LineClient.leave, LineClient.close, LineClient.half_close, LineClient.reset)
        for k, end in enumerate(endings):
            client = daemon.connect(address=address)
            client.join(f"p{n}-{k}")
            end(client)
            client.close()
    until(lambda: daemon.stat()["names"] == 0, "the last one to be gone")
    until(
        lambda: [(fd_count(pid), status(pid).threads) for pid in pids] == expected,
        "as many descriptors and threads as at the start",
    )
