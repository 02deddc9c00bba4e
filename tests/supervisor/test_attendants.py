"""The life of an attendant: it comes back, gives way, and ends when all others have ended."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.harness.processes import fd_count
from tests.supervisor.attendants import VARIABLE

if TYPE_CHECKING:
    from tests.harness.events import Event
    from tests.supervisor.conftest import StartDaemon
    from tests.supervisor.daemon import Daemon


def attended(start_daemon: StartDaemon, name: str = "attend", **options: object) -> Daemon:
    daemon: Daemon = start_daemon(environ={VARIABLE: name}, **options)
    daemon.wait_for("supervisor.ready")
    return daemon


def ready(daemon: Daemon, generation: int) -> Event:
    return daemon.wait_for("attendant.ready", name="historian", generation=generation)[0]


def test_it_ends_after_the_last_worker_and_finds_what_that_has_left(
    start_daemon: StartDaemon,
) -> None:
    daemon = attended(start_daemon, worker="leave_mail", server={"workers": 2})
    ready(daemon, 1)
    assert daemon.stop() == 0
    (ended,) = daemon.events("attendant.ended")
    assert (ended["order"], sorted(ended["mail"])) == ("STOP", ["from 0", "from 1"])
    exits = [line["event"] for line in daemon.lines if line["event"].endswith(".exited")]
    assert exits == ["worker.exited", "worker.exited", "attendant.exited"]


def test_a_killed_one_has_a_successor_and_no_worker_notices(start_daemon: StartDaemon) -> None:
    daemon = attended(start_daemon)
    daemon.wait_for("attendant.began")
    os.kill(ready(daemon, 1)["pid"], signal.SIGKILL)
    ready(daemon, 2)
    daemon.wait_for("attendant.began", predecessor="1")
    assert not daemon.events("worker.exited")
    assert daemon.stop() == 0


def test_one_that_always_crashes_does_not_end_the_daemon(start_daemon: StartDaemon) -> None:
    respawn = {"max_crashes": 2, "backoff_min_seconds": 0.01, "backoff_max_seconds": 0.02}
    daemon = attended(start_daemon, "crash", respawn=respawn)
    delays = daemon.wait_for("attendant.throttled", count=6)
    assert all(line["delay_seconds"] <= 0.02 for line in delays)
    assert daemon.stop() == 0


def test_one_that_stands_still_is_killed_and_replaced(start_daemon: StartDaemon) -> None:
    daemon = attended(start_daemon, "lose_heart", server={"watchdog_seconds": 0.6})
    stuck = daemon.wait_for("attendant.stuck", name="historian")[0]
    assert stuck["signal"] == "SIGABRT"
    ready(daemon, 2)
    assert daemon.stop() == 0


def test_a_reload_replaces_it_and_may_do_without_it(start_daemon: StartDaemon) -> None:
    daemon = attended(start_daemon)
    ready(daemon, 1)
    daemon.send(signal.SIGHUP)
    ready(daemon, 2)
    daemon.wait_for("attendant.ended", order="HAND_OVER")
    daemon.configure(history={"enabled": False})
    daemon.send(signal.SIGHUP)
    daemon.wait_for("attendant.exited", meaning="left")
    daemon.configure(history={"enabled": True})
    daemon.send(signal.SIGHUP)
    ready(daemon, 3)
    assert daemon.stop() == 0


def test_one_that_is_not_wanted_is_never_there(start_daemon: StartDaemon) -> None:
    daemon = attended(start_daemon, history={"enabled": False})
    assert daemon.stop() == 0
    assert not daemon.events("attendant.spawned")


def test_one_that_does_not_go_when_it_is_told_to_is_killed(start_daemon: StartDaemon) -> None:
    daemon = attended(start_daemon, "be_deaf", server={"stop_seconds": 0.2})
    ready(daemon, 1)
    assert daemon.stop() == 0
    daemon.wait_for("attendant.killed", name="historian", signal="SIGKILL")


def test_an_upgrade_finds_it_and_replaces_it(start_daemon: StartDaemon) -> None:
    daemon = attended(start_daemon)
    daemon.wait_for("attendant.began")
    first = ready(daemon, 1)["pid"]
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("replacement.finished", reason="upgrade")
    ready(daemon, 2)
    daemon.wait_for("attendant.exited", pid=first, meaning="retired")
    daemon.wait_for("attendant.began", predecessor="1")
    assert daemon.stop() == 0


def test_an_orphan_ends(start_daemon: StartDaemon) -> None:
    daemon = attended(start_daemon)
    ready(daemon, 1)
    daemon.kill()
    daemon.wait_until_nobody_survives(seconds=2.0)
    successor = start_daemon()
    successor.wait_for("supervisor.ready")
    assert successor.stop() == 0


def test_it_keeps_no_clients_socket_open(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("echo", environ={VARIABLE: "attend"}, server={"workers": 1})
    daemon.wait_for("supervisor.ready")
    pid = ready(daemon, 1)["pid"]
    daemon.wait_for("attendant.began")
    before = fd_count(pid)
    people = [daemon.connect() for _ in range(5)]
    for person in people:
        person.sendall(b"hello\n")
        assert person.recv(100)
    os.kill(pid, signal.SIGKILL)
    successor = ready(daemon, 2)["pid"]
    daemon.wait_for("attendant.began", count=2)
    assert fd_count(successor) == before
    for person in people:
        person.close()
    assert daemon.stop() == 0
