"""The harness notices what it is there to notice."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness.processes import is_alive
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon, StartDaemon


def test_semaphores_that_are_left_are_noticed_and_removed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    with pytest.raises(AssertionError, match=r"semaphore accept 0.* left"):
        daemon.finish()
    assert not daemon.objects.existing()


def test_a_process_that_is_left_is_noticed_and_killed(
    start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start_daemon()
    worker = daemon.worker_pid(0)
    os.kill(worker, signal.SIGSTOP)  # so that it does not notice the end of its supervisor
    daemon.signal(signal.SIGKILL)
    until(lambda: not is_alive(daemon.pid), "the supervisor to end")
    monkeypatch.setattr("tests.harness.daemon.PATIENCE_SECONDS", 0.2)
    with pytest.raises(AssertionError, match="the end of the log"):
        daemon.finish()
    until(lambda: not is_alive(worker), "the worker to end")


def test_a_warning_that_nobody_expects_is_noticed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    os.kill(daemon.worker_pid(0), signal.SIGKILL)
    daemon.log.wait_for(log.WORKER_READY, p_id=0, generation=2)
    with pytest.raises(AssertionError, match=r"in the log:\n.*worker\.exited"):
        daemon.finish()


def test_clients_are_where_the_test_wants_them(daemon: Daemon) -> None:
    for worker in (0, 1, 0, 1):
        assert daemon.worker_of(daemon.connect(worker)) == worker
