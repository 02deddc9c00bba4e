"""Signals that an operator sends to a real supervisor whose workers have clients."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.supervisor.echo import UNLUCKY
from tests.supervisor.people import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.supervisor.conftest import StartDaemon
    from tests.supervisor.daemon import Daemon
    from tests.supervisor.people import Room


def spawned(daemon: Daemon) -> list[tuple[int, int]]:
    return [(line["p_id"], line["generation"]) for line in daemon.events("worker.spawned")]


def test_clients_of_a_killed_worker_are_adopted_by_its_successor(room: Room) -> None:
    daemon = room.open()
    for generation in (2, 3, 4):
        for pid in daemon.worker_pids():
            os.kill(pid, signal.SIGKILL)
        for p_id in range(2):
            daemon.wait_for("worker.ready", p_id=p_id, generation=generation)
        assert {served_by[1] for served_by in room.ask_all()} == {generation}
    assert daemon.stop() == 0
    assert sum(person.hear() == "stop" for person in room.people) == 10


def test_clients_for_whom_there_is_no_descriptor_end_with_their_worker(room: Room) -> None:
    """And the others do not, and nobody is refused."""
    limited = ("sh", "-c", 'ulimit -n 300 && exec "$0" "$@"')
    daemon = room.open(people=0, prefix=limited, server={"workers": 1, "max_clients": 1000})
    protected = daemon.events("keeper.limited")[0]["clients"]
    for _ in range(protected + 20):
        room.enter()
    daemon.wait_for("keeper.filled", kept=protected)
    os.kill(daemon.worker_pids()[0], signal.SIGKILL)
    daemon.wait_for("clients.adopted", count=1, generation=2)
    assert {person.ask() for person in room.people[:protected]} == {(0, 2)}
    assert all(person.has_been_hung_up_on() for person in room.people[protected:])
    assert len(daemon.events("keeper.filled")) == 1
    assert daemon.stop() == 0


def test_sigterm_to_a_worker_hands_its_clients_over_at_once(room: Room) -> None:
    daemon = room.open(server={"workers": 1}, respawn={"quick_death_seconds": 1000})
    for generation in range(2, 6):
        os.kill(daemon.worker_pids()[0], signal.SIGTERM)
        daemon.wait_for("worker.ready", generation=generation)
        assert room.ask_all() == {(0, generation)}
    assert not daemon.events("worker.throttled")
    assert daemon.stop() == 0


def test_reload_replaces_workers_one_at_a_time_and_loses_nobody(room: Room) -> None:
    daemon = room.open(server={"workers": 3})
    daemon.send(signal.SIGHUP)
    daemon.wait_for("replacement.finished", reason="reload")
    events = [
        (line["event"].removeprefix("worker."), line["p_id"])
        for line in daemon.lines
        if line["event"].startswith("worker.") and line["generation"] + (line["event"] in OLD) > 1
    ]
    steps = ("told", "exited", "spawned", "ready")
    assert events == [(step, p_id) for p_id in range(3) for step in steps]
    assert {generation for _, generation in room.ask_all()} == {2}
    assert len(room.people) == 10
    assert daemon.stop() == 0


OLD = ("worker.told", "worker.exited")


def test_second_reload_meanwhile_is_not_lost(room: Room) -> None:
    """gunicorn #3274 and others: it was swallowed, or ended workers twice."""
    daemon = room.open()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("worker.told", p_id=0)
    daemon.send(signal.SIGHUP)
    daemon.wait_for("replacement.finished", count=2)
    assert len(daemon.events("replacement.begun")) == 2
    newest = dict(spawned(daemon))
    assert all(generation in (2, 3) for generation in newest.values())
    begun = [index for index, line in enumerate(daemon.lines) if line["event"] == "config.loaded"]
    forked = {
        line["p_id"] for line in daemon.lines[begun[1] :] if line["event"] == "worker.spawned"
    }
    assert forked == {0, 1}, "everybody has the second configuration"
    assert room.ask_all() <= set(newest.items())
    assert daemon.stop() == 0


def test_reload_with_a_wrong_configuration_changes_nothing(room: Room) -> None:
    """gunicorn #2443: good workers were killed and bad ones started."""
    daemon = room.open()
    daemon.configure(server={"workers": 0})
    daemon.send(signal.SIGHUP)
    (rejected,) = daemon.wait_for("config.rejected")
    assert "server.workers" in rejected["reason"]
    assert {generation for _, generation in room.ask_all()} == {1}
    daemon.configure()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("replacement.finished")
    assert daemon.stop() == 0
    assert len(daemon.events("worker.told", order="hand_over")) == 2


def test_reload_with_a_log_file_that_cannot_be_opened_changes_nothing(
    room: Room, tmp_path: Path
) -> None:
    daemon = room.open(people=2)
    daemon.configure(log={"format": "json", "file": str(tmp_path / "missing" / "log")})
    daemon.send(signal.SIGHUP)
    (rejected,) = daemon.wait_for("config.rejected")
    assert rejected["reason"].endswith("/missing/log: No such file or directory")
    assert {generation for _, generation in room.ask_all()} == {1}
    assert daemon.stop() == 0


def test_reload_names_what_needs_a_restart(room: Room) -> None:
    daemon = room.open()
    daemon.configure(server={"threads": 5, "max_clients": 7, "drain_seconds": 3.0})
    daemon.send(signal.SIGHUP)
    (kept,) = daemon.wait_for("config.kept")
    assert kept["keys"] == ["server.threads", "server.max_clients"]
    daemon.wait_for("replacement.finished")
    assert daemon.stop() == 0


def test_reload_may_change_the_number_of_workers(room: Room) -> None:
    daemon = room.open(server={"workers": 2})
    daemon.configure(server={"workers": 4})
    daemon.send(signal.SIGHUP)
    daemon.wait_for("replacement.finished", count=1)
    assert len(daemon.worker_pids()) == 4
    daemon.configure(server={"workers": 1})
    daemon.send(signal.SIGHUP)
    daemon.wait_for("worker.exited", count=3, meaning="left")
    assert {p_id for p_id, _ in room.ask_all()} == {0}
    assert daemon.stop() == 0


def test_configuration_that_makes_workers_crash_is_taken_back(room: Room) -> None:
    """Right as far as anybody could tell before: only a worker finds out."""
    daemon = room.open(server={"workers": 3})
    daemon.configure(limits={"burst_lines": UNLUCKY})
    daemon.send(signal.SIGHUP)
    daemon.wait_for("config.restored")
    daemon.wait_for("worker.ready", p_id=0, generation=5)
    assert room.ask_all() <= {(0, 5), (1, 1), (2, 1)}
    (failed,) = daemon.events("replacement.failed")
    assert failed["failure"] == "the new worker 0 has crashed 3 times in a row"
    assert daemon.stop() == 0


def test_worker_that_does_not_hand_over_is_killed_and_replaced(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("ignore_sigterm", server={"workers": 1, "stop_seconds": 0.0})
    daemon.wait_for("supervisor.ready")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("replacement.finished")
    assert [line["signal"] for line in daemon.events("worker.killed")] == ["SIGKILL"]
    assert daemon.stop() == 0


def test_one_more_and_one_fewer_worker(room: Room) -> None:
    daemon = room.open(server={"workers": 1, "max_workers": 3})
    for p_id in (1, 2):
        daemon.send(signal.SIGTTIN)
        daemon.wait_for("worker.ready", p_id=p_id)
    daemon.send(signal.SIGTTIN)
    daemon.wait_for("operation.refused", signal="SIGTTIN")
    for _ in range(10):
        room.enter()
    for workers in (2, 1):
        daemon.send(signal.SIGTTOU)
        daemon.wait_for("worker.exited", p_id=workers, meaning="left")
        assert {p_id for p_id, _ in room.ask_all()} <= set(range(workers))
    daemon.send(signal.SIGTTOU)
    daemon.wait_for("operation.refused", signal="SIGTTOU")
    daemon.send(signal.SIGTTIN)
    daemon.wait_for("worker.ready", p_id=1, generation=2)
    assert daemon.stop() == 0
    assert len(daemon.worker_pids()) == 0


def test_worker_that_is_killed_while_it_leaves_is_adopted_and_leaves_again(room: Room) -> None:
    daemon = room.open(server={"workers": 2})
    pid = daemon.events("worker.spawned", p_id=1)[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    daemon.send(signal.SIGTTOU)
    daemon.wait_for("worker.ready", p_id=1, generation=2)
    daemon.wait_for("worker.exited", p_id=1, generation=2, meaning="left")
    assert {p_id for p_id, _ in room.ask_all()} == {0}
    assert daemon.stop() == 0


def test_drain_waits_until_everybody_has_left(room: Room) -> None:
    daemon = room.open(people=4)
    daemon.send(signal.SIGQUIT)
    daemon.wait_for("worker.told", order="drain")
    until(lambda: is_refused(daemon), "nobody to be accepted any more")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("operation.refused", reason="the daemon is draining")
    assert len(room.ask_all()) in (1, 2)
    room.close()
    assert daemon.wait() == 0
    assert {line["meaning"] for line in daemon.events("worker.exited")} == {"left"}
    assert not daemon.events("supervisor.stopping")


def test_drain_goes_on_when_a_worker_is_killed(room: Room) -> None:
    daemon = room.open(people=4, server={"workers": 1})
    daemon.send(signal.SIGQUIT)
    daemon.wait_for("worker.told", order="drain")
    os.kill(daemon.worker_pids()[0], signal.SIGKILL)
    daemon.wait_for("worker.told", order="drain", generation=2)
    assert room.ask_all() == {(0, 2)}
    room.close()
    assert daemon.wait() == 0


def test_drain_becomes_a_stop_after_drain_seconds(room: Room) -> None:
    daemon = room.open(people=2, server={"drain_seconds": 0.2})
    daemon.send(signal.SIGQUIT)
    assert daemon.wait() == 0
    assert daemon.events("supervisor.stopping", reason="drain_seconds are over")
    assert [person.hear() for person in room.people] == ["stop", "stop"]


def test_stop_ends_a_drain(room: Room) -> None:
    daemon = room.open(people=2)
    daemon.send(signal.SIGQUIT)
    daemon.wait_for("supervisor.draining")
    assert daemon.stop() == 0
    assert [person.hear() for person in room.people] == ["stop", "stop"]


def test_log_goes_on_in_a_new_file_when_the_old_one_was_moved(room: Room, tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    daemon = room.start_daemon("echo", log={"format": "json", "file": str(path)})
    wait_for_text(path, "supervisor.ready")
    path.rename(tmp_path / "daemon.log.1")
    daemon.send(signal.SIGUSR1)
    wait_for_text(path, "log.reopened")
    os.kill(daemon.worker_pids()[0], signal.SIGTERM)
    wait_for_text(path, "clients.adopted")
    assert daemon.stop() == 0
    assert daemon.lines == []
    assert "supervisor.stopped" in path.read_text()


def test_reloads_leak_no_descriptor_and_no_thread(room: Room) -> None:
    """gunicorn #3648: each reload leaked a thread and a descriptor."""
    daemon = room.open(people=2, server={"workers": 1})
    before: list[str] = []
    for count in range(1, 31):
        daemon.send(signal.SIGHUP)
        daemon.wait_for("replacement.finished", count=count)
        before = before or os.listdir(f"/proc/{daemon.pid}/fd")
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) == len(before)
    assert os.listdir(f"/proc/{daemon.pid}/task") == [str(daemon.pid)]
    assert room.ask_all() == {(0, 31)}
    assert daemon.stop() == 0


def is_refused(daemon: Daemon) -> bool:
    try:
        daemon.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # it stood in line when the last listener was closed
    return False


def wait_for_text(path: Path, text: str) -> None:
    until(lambda: path.exists() and text in path.read_text(), f"{text} in {path}")
