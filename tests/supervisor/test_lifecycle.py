"""A real supervisor and real signals: start, respawn, watch, stop."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat.supervisor.signals import IGNORED_BY_WORKERS
from tests.harness.measuring import UNMEASURED

if TYPE_CHECKING:
    from tests.supervisor.conftest import StartDaemon

# What a test uses that kills workers faster than any operator would.
FORGIVING = {
    "quick_death_seconds": 0.001,
    "backoff_min_seconds": 0.001,
    "backoff_max_seconds": 0.01,
    "max_crashes": 1_000_000,
}
IMPATIENT = {
    "quick_death_seconds": 1.0,
    "backoff_min_seconds": 0.05,
    "backoff_max_seconds": 0.4,
    "max_crashes": 4,
}


def test_daemon_is_ready_when_all_workers_are_and_leaves_nothing(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(server={"workers": 3})
    daemon.wait_for("supervisor.ready")
    assert {line["p_id"] for line in daemon.events("worker.ready", generation=1)} == {0, 1, 2}
    assert len(daemon.worker_pids()) == 3
    assert daemon.stop() == 0
    assert len(daemon.events("worker.exited", how="exit 0", meaning="stopped")) == 3
    assert daemon.lines[-1]["event"] == "supervisor.stopped"


def test_killed_worker_is_replaced_by_its_next_generation(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(respawn=FORGIVING)
    victim = daemon.wait_for("worker.ready", p_id=1, generation=1)[0]
    daemon.wait_for("supervisor.ready")
    os.kill(victim["pid"], signal.SIGKILL)
    daemon.wait_for("worker.ready", p_id=1, generation=2)
    exited = daemon.events("worker.exited")
    assert [(line["pid"], line["how"]) for line in exited] == [(victim["pid"], "SIGKILL")]
    assert daemon.stop() == 0


@pytest.mark.slow
def test_a_thousand_worker_kills_while_logging_hard_change_nothing(
    start_daemon: StartDaemon,
) -> None:
    """gunicorn #3004, #2816: a log written in the SIGCHLD handler deadlocked."""
    daemon = start_daemon("chatter", environ=UNMEASURED, server={"workers": 6}, respawn=FORGIVING)
    for killed, ready in enumerate(daemon.follow("worker.ready"), start=1):
        os.kill(ready["pid"], signal.SIGKILL)
        if killed == 1000:
            break
    daemon.wait_for("worker.exited", count=1000, how="SIGKILL")
    daemon.wait_for("worker.ready", count=1006)
    newest = [daemon.events("worker.ready", p_id=p_id)[-1]["generation"] for p_id in range(6)]
    assert sum(newest) == 1006
    assert daemon.stop() == 0


def test_every_kind_of_signal_in_a_burst_of_a_hundred_is_heard(start_daemon: StartDaemon) -> None:
    """gunicorn #2314: a capped queue dropped the SIGTERM behind other signals."""
    daemon = start_daemon()
    daemon.wait_for("supervisor.ready")
    kinds = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU]
    kinds += [signal.SIGQUIT, signal.SIGCHLD]
    for turn in range(99):
        daemon.send(kinds[turn % len(kinds)])
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    heard = {line["signal"] for line in daemon.events("signal.received")}
    assert heard == {kind.name for kind in kinds} - {"SIGCHLD"} | {"SIGTERM"}
    assert daemon.events("supervisor.stopping", reason="SIGTERM")


def test_sigterm_right_after_fork_is_not_lost(start_daemon: StartDaemon) -> None:
    """gunicorn #1910: between fork and the child's handlers a signal went into the void.

    There is one worker: a single SIGTERM lost, and nobody would end any more.
    """
    daemon = start_daemon("terminated_at_birth", server={"workers": 1}, respawn=FORGIVING)
    daemon.wait_for("worker.exited", count=100)
    assert daemon.stop() == 0
    assert {line["how"] for line in daemon.events("worker.exited")} <= {"SIGTERM", "exit 0"}


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.002, 0.005, 0.01])
def test_sigterm_while_workers_are_being_forked_stops_the_daemon(
    start_daemon: StartDaemon, delay: float
) -> None:
    daemon = start_daemon(server={"workers": 16})
    daemon.wait_for("worker.spawned")
    time.sleep(delay)
    assert daemon.stop() == 0


def test_worker_without_heartbeat_dumps_its_stacks_and_is_replaced(
    start_daemon: StartDaemon,
) -> None:
    """gunicorn #2454: SIGABRT and SIGKILL came together, so there never was a dump."""
    daemon = start_daemon("lose_heart", server={"workers": 1, "watchdog_seconds": 0.5})
    daemon.wait_for("worker.ready", generation=2)
    assert daemon.stop() == 0
    daemon.wait_for_text("Fatal Python error: Aborted")
    daemon.wait_for_text("in hang_in_start_up")
    assert [line["signal"] for line in daemon.events("worker.stuck")] == ["SIGABRT"]
    assert daemon.events("worker.exited", how="SIGABRT", generation=1)
    assert not daemon.events("worker.killed")


def test_stopped_worker_gets_one_sigkill_a_second_after_sigabrt(start_daemon: StartDaemon) -> None:
    """pitchfork 4f6178e1: thousands of SIGKILLs went to one child."""
    daemon = start_daemon("stop_own_process", server={"watchdog_seconds": 0.5})
    daemon.wait_for("worker.ready", p_id=0, generation=2)
    assert daemon.stop() == 0
    (killed,) = daemon.events("worker.killed")
    assert (killed["signal"], killed["p_id"]) == ("SIGKILL", 0)
    assert killed["silent_seconds"] >= 1.5
    assert daemon.events("worker.exited", how="SIGKILL", p_id=0)


def test_worker_that_hangs_in_start_up_is_found_and_counts_as_crash(
    start_daemon: StartDaemon,
) -> None:
    """pitchfork #69: the watchdog looked at ready workers only."""
    daemon = start_daemon(
        "hang_in_start_up",
        server={"workers": 1, "watchdog_seconds": 0.5},
        respawn={**IMPATIENT, "max_crashes": 2},
    )
    assert daemon.wait() == 1
    assert len(daemon.events("worker.stuck", signal="SIGABRT")) == 2
    assert [line["crashes"] for line in daemon.events("worker.throttled")] == [1, 2]


def test_crashing_worker_is_throttled_and_finally_ends_the_daemon(
    start_daemon: StartDaemon,
) -> None:
    """gunicorn #2504: it was respawned for ever, as fast as the machine could."""
    daemon = start_daemon("crash", server={"workers": 1}, respawn=IMPATIENT)
    assert daemon.wait() == 1
    delays = [line["delay_seconds"] for line in daemon.events("worker.throttled")]
    assert len(delays) == 4
    assert 0.05 <= delays[0] <= 0.1 <= delays[1] <= 0.2 <= delays[2] <= 0.4
    assert {line["how"] for line in daemon.events("worker.exited")} == {"exit 3"}
    (degraded,) = daemon.events("supervisor.degraded")
    assert degraded["reason"] == "worker 0 has crashed 4 times in a row"


def test_refused_fork_is_tried_again(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("refused_at_first", server={"workers": 1}, respawn=IMPATIENT)
    daemon.wait_for("supervisor.ready")
    refused = [line["fork"] for line in daemon.events("worker.throttled")]
    assert refused == ["Resource temporarily unavailable"] * 3
    assert daemon.events("worker.ready", generation=4)
    assert daemon.stop() == 0


def test_too_few_descriptors_are_a_clear_error(start_daemon: StartDaemon) -> None:
    limited = ("sh", "-c", 'ulimit -n 64 && exec "$0" "$@"')
    daemon = start_daemon(prefix=limited, server={"workers": 16, "threads": 4})
    assert daemon.wait() == 1
    reason = "socketpairs of the workers: Too many open files (see `ulimit -n`)"
    assert daemon.text == [f"prefork-chat: {reason}"]


def test_error_in_a_worker_is_logged_with_its_traceback(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("raise_an_error", server={"workers": 1}, respawn=IMPATIENT)
    assert daemon.wait() == 1
    assert "RuntimeError: a bug of the worker" in daemon.events("worker.failed")[0]["exception"]
    assert {line["how"] for line in daemon.events("worker.exited")} == {"exit 70"}


def test_exit_0_before_ready_is_no_retirement(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("exit_0_at_once", server={"workers": 1}, respawn=IMPATIENT)
    assert daemon.wait() == 1
    assert len(daemon.events("worker.exited", meaning="crashed")) == 4


def test_retired_worker_is_replaced_at_once_and_never_throttled(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("retire", server={"workers": 2}, respawn=IMPATIENT)
    daemon.wait_for("worker.exited", count=20, meaning="retired")
    assert not daemon.events("worker.throttled")
    assert daemon.stop() == 0


def test_a_worker_that_retires_before_it_is_looked_at_has_not_crashed(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon("retire_unseen", server={"workers": 1}, respawn=IMPATIENT)
    daemon.wait_for("worker.exited", count=5, meaning="retired")
    assert not daemon.events("worker.throttled")
    assert daemon.stop() == 0


def test_journals_are_a_loops_own_and_outlive_its_worker(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("write_journal", server={"workers": 2, "threads": 3})
    for p_id in range(2):
        for generation in (2, 3):
            (line,) = daemon.wait_for("journal.read", p_id=p_id, generation=generation)
            left = [f"{p_id}.{t_id}.{generation - 1}" for t_id in range(3)]
            assert [text.strip() for text in line["text"]] == left
    assert daemon.stop() == 0


def test_too_few_descriptors_for_all_clients_are_told_at_the_start(
    start_daemon: StartDaemon,
) -> None:
    limited = ("sh", "-c", 'ulimit -n 500 && exec "$0" "$@"')
    daemon = start_daemon(prefix=limited, server={"max_clients": 1000})
    (told,) = daemon.wait_for("keeper.limited")
    assert (told["max_clients"], told["descriptors"]) == (1000, 500)
    assert 200 < told["clients"] < 450
    daemon.wait_for("supervisor.ready")
    assert daemon.stop() == 0


def test_idle_daemon_stops_at_once(start_daemon: StartDaemon) -> None:
    """uwsgi #2653: threads without traffic never woke up to stop."""
    daemon = start_daemon(server={"stop_seconds": 20})
    daemon.wait_for("supervisor.ready")
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 5
    assert not daemon.events("worker.killed")


def test_worker_that_does_not_stop_is_killed_after_stop_seconds(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("ignore_sigterm", server={"workers": 2, "stop_seconds": 0.5})
    daemon.wait_for("supervisor.ready")
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun >= 0.5
    assert len(daemon.events("worker.killed", signal="SIGKILL")) == 2


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_means_now(start_daemon: StartDaemon, second: signal.Signals) -> None:
    daemon = start_daemon("ignore_sigterm", server={"stop_seconds": 60})
    daemon.wait_for("supervisor.ready")
    daemon.send(signal.SIGTERM)
    daemon.wait_for("supervisor.stopping")
    daemon.send(second)
    assert daemon.wait() == 0
    assert daemon.events("signal.received", signal=second.name, meaning="stop now")
    assert daemon.events("worker.exited", how="SIGKILL", meaning="stopped")


def test_stopped_process_is_woken_to_stop_in_order(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(server={"workers": 1, "stop_seconds": 20})
    pid = daemon.wait_for("worker.ready")[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert daemon.stop() == 0
    assert daemon.events("worker.exited", how="exit 0")


def test_signals_meant_for_the_supervisor_do_not_harm_workers(start_daemon: StartDaemon) -> None:
    """gunicorn #1868: `pkill -HUP` killed the workers; Ctrl-C reaches the whole group as well."""
    daemon = start_daemon()
    daemon.wait_for("supervisor.ready")
    pids = daemon.worker_pids()
    for pid in pids:
        for kind in IGNORED_BY_WORKERS:
            os.kill(pid, kind)
    daemon.send(signal.SIGUSR1)
    daemon.wait_for("log.reopened")
    assert sorted(daemon.worker_pids()) == sorted(pids)
    assert daemon.stop() == 0
    assert {line["how"] for line in daemon.events("worker.exited")} == {"exit 0"}


def test_interrupt_of_the_whole_group_stops_in_order(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    daemon.wait_for("supervisor.ready")
    os.killpg(daemon.pid, signal.SIGINT)
    assert daemon.wait() == 0
    assert {line["how"] for line in daemon.events("worker.exited")} == {"exit 0"}


def test_group_that_was_stopped_for_long_is_not_taken_for_stuck(start_daemon: StartDaemon) -> None:
    """Ctrl-Z and `fg`: nobody could beat while all were stopped."""
    daemon = start_daemon(server={"watchdog_seconds": 0.5})
    daemon.wait_for("supervisor.ready")
    os.killpg(daemon.pid, signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(daemon.pid, signal.SIGCONT)
    time.sleep(0.1)  # the supervisor runs before its workers do
    os.killpg(daemon.pid, signal.SIGCONT)
    time.sleep(0.5)
    assert daemon.stop() == 0
    assert not daemon.events("worker.stuck")
