"""The service under a real systemd: how it starts, shows itself, survives and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.systemd.service import (
    ADDRESS,
    CONFIG,
    PATIENCE_SECONDS,
    open_sockets,
    run,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.systemd.service import Person, Service

    Connect = Callable[[str], Person]

pytestmark = pytest.mark.systemd


def ipc_objects() -> tuple[set[str], set[str]]:
    """Return the keys of all System V objects and the names of all POSIX ones on this machine."""
    tables = [Path(f"/proc/sysvipc/{kind}") for kind in ("sem", "shm", "msg")]
    rows = [row.split()[0] for table in tables for row in table.read_text().splitlines()[1:]]
    return set(rows), set(os.listdir("/dev/shm"))


def test_the_first_connection_starts_the_daemon(service: Service, connect: Connect) -> None:
    assert service.show("ActiveState") == "inactive"
    ann = connect("ann")
    wait_until(lambda: service.show("ActiveState") == "active", "the service is active")
    ann.say("LEAV")
    ann.hear("OK LEAV")


def test_it_is_ready_only_when_all_workers_are(service: Service) -> None:
    """`systemctl start` returns at READY=1."""
    workers = 12
    CONFIG.write_text(CONFIG.read_text().replace("#workers = 2", f"workers = {workers}"))
    try:
        run("systemctl", "start", "prefork-chat.service")
        assert service.show("StatusText").startswith(f"{workers} of {workers} workers ready; ")
        assert len(service.worker_pids()) == workers
    finally:
        run("systemctl", "stop", "prefork-chat.service")
        CONFIG.write_text(CONFIG.read_text().replace(f"workers = {workers}", "#workers = 2"))


def test_the_status_tells_workers_and_addresses(service: Service) -> None:
    run("systemctl", "start", "prefork-chat.service")
    assert service.show("StatusText") == "2 of 2 workers ready; 127.0.0.1:7000"
    assert service.show("NotifyAccess") == "main"


def test_people_talk_across_workers_over_the_activated_socket(
    service: Service, connect: Connect
) -> None:
    run("systemctl", "start", "prefork-chat.service")
    workers = service.worker_pids()
    before = [open_sockets(pid) for pid in workers]
    people = [connect(f"person{number}") for number in range(6)]
    after = [open_sockets(pid) for pid in workers]
    assert all(now > then for now, then in zip(after, before, strict=True))
    for sender in people:
        for receiver in people:
            if sender is not receiver:
                sender.say(f"CHAT {receiver.name} hello from {sender.name}")
                sender.hear(f"OK CHAT {receiver.name}")
                receiver.hear(f"CHAT {sender.name} hello from {sender.name}")


def test_a_killed_worker_is_replaced_and_the_service_stays(
    service: Service, connect: Connect
) -> None:
    run("systemctl", "start", "prefork-chat.service")
    supervisor, workers = service.main_pid(), service.worker_pids()
    os.kill(workers[0], signal.SIGKILL)
    wait_until(
        lambda: (
            len(set(service.worker_pids()) - {workers[0]}) == 2
            and "2 of 2 workers ready" in service.show("StatusText")
        ),
        "a successor is ready",
    )
    assert service.main_pid() == supervisor
    assert service.show("NRestarts") == "0"
    connect("ann")


def test_a_killed_supervisor_is_replaced_and_leaves_nothing(
    service: Service, connect: Connect
) -> None:
    run("systemctl", "start", "prefork-chat.service")
    supervisor, workers = service.main_pid(), service.worker_pids()
    keys_of_one, names_of_one = ipc_objects()
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: service.main_pid() not in (0, supervisor), "a new supervisor")
    connect("ann")
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    keys, names = ipc_objects()
    assert (len(keys), names) == (len(keys_of_one), names_of_one)


def test_a_supervisor_that_stands_still_is_restarted_by_the_watchdog(
    service: Service, connect: Connect
) -> None:
    with service.changed("WatchdogSec=1"):
        run("systemctl", "start", "prefork-chat.service")
        supervisor = service.main_pid()
        fed: set[str] = set()

        def is_fed_often() -> bool:
            fed.add(service.show("WatchdogTimestampMonotonic"))
            return len(fed) > 4

        wait_until(is_fed_often, "the watchdog is fed again and again")
        assert service.main_pid() == supervisor
        os.kill(supervisor, signal.SIGSTOP)
        wait_until(lambda: service.main_pid() not in (0, supervisor), "a new supervisor")
        assert service.show("NRestarts") == "1"
        connect("ann")


def test_connections_wait_while_the_daemon_restarts(service: Service, connect: Connect) -> None:
    ann = connect("ann")
    restart = subprocess.Popen(["systemctl", "restart", "prefork-chat.service"])
    assert ann.hears_the_end()
    connect("bob")
    assert restart.wait(PATIENCE_SECONDS) == 0


def test_a_stop_tells_clients_and_leaves_nothing(service: Service, connect: Connect) -> None:
    before = ipc_objects()
    run("systemctl", "start", "prefork-chat.service")
    ann = connect("ann")
    supervisor, workers = service.main_pid(), service.worker_pids()
    assert ipc_objects() != before
    assert Path("/run/prefork-chat").is_dir()
    run("systemctl", "stop", "prefork-chat.service", "prefork-chat.socket")
    ann.hear("NOTE server is going down")
    assert ann.hears_the_end()
    assert service.show("Result") == "success"
    assert service.show("ExecMainStatus") == "0"
    assert not any(Path(f"/proc/{pid}").exists() for pid in [supervisor, *workers])
    assert not Path("/run/prefork-chat").exists()
    assert ipc_objects() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(ADDRESS)


def test_a_stop_in_order_is_faster_than_the_time_to_kill(
    service: Service, connect: Connect
) -> None:
    connect("ann")
    started = time.monotonic()
    run("systemctl", "stop", "prefork-chat.service")
    assert time.monotonic() - started < 5.0


def test_the_journal_has_json_lines_with_their_priority(service: Service) -> None:
    cursor = service.cursor()
    run("systemctl", "start", "prefork-chat.service")
    os.kill(service.worker_pids()[0], signal.SIGKILL)
    supervisor = str(service.main_pid())

    def events() -> dict[str, str]:
        entries = [e for e in service.journal(cursor) if e.get("_PID") == supervisor]
        return {json.loads(entry["MESSAGE"])["event"]: entry["PRIORITY"] for entry in entries}

    wait_until(lambda: "worker.exited" in events(), "the worker's end is in the journal")
    assert events()["supervisor.ready"] == "6"
    assert events()["worker.exited"] == "4"


def test_a_wrong_configuration_fails_once_and_is_told_in_the_journal(service: Service) -> None:
    cursor = service.cursor()
    right = CONFIG.read_text()
    CONFIG.write_text("[server]\nworkers = 0\n")
    try:
        result = subprocess.run(["systemctl", "start", "prefork-chat.service"], check=False)
        assert result.returncode != 0
        assert service.show("ExecMainStatus") == "2"
        assert service.show("NRestarts") == "0"
        told = [entry["MESSAGE"] for entry in service.journal(cursor)]
        assert f"prefork-chat: {CONFIG}: server.workers: expected int >= 1" in told
    finally:
        CONFIG.write_text(right)


def test_pinned_workers_start_under_the_units_system_call_filter(service: Service) -> None:
    right = CONFIG.read_text()
    CONFIG.write_text(right.replace("#pin_cpu = false", "pin_cpu = true"))
    try:
        run("systemctl", "start", "prefork-chat.service")
        assert [len(os.sched_getaffinity(pid)) for pid in service.worker_pids()] == [1, 1]
    finally:
        CONFIG.write_text(right)


def test_reload_replaces_the_workers_and_keeps_the_clients(
    service: Service, connect: Connect
) -> None:
    ann, bob = connect("ann"), connect("bob")
    supervisor, workers = service.main_pid(), service.worker_pids()
    run("systemctl", "reload", "prefork-chat.service")
    assert service.main_pid() == supervisor
    assert not set(service.worker_pids()) & set(workers), "it returns when all are new"
    ann.say("CHAT bob still here")
    bob.hear("CHAT ann still here")


def test_reload_of_a_wrong_configuration_fails_and_changes_nothing(
    service: Service, connect: Connect
) -> None:
    ann = connect("ann")
    workers = service.worker_pids()
    right = CONFIG.read_text()
    CONFIG.write_text("[server]\nworkers = 0\n")
    try:
        result = subprocess.run(["systemctl", "reload", "prefork-chat.service"], check=False)
    finally:
        CONFIG.write_text(right)
    assert result.returncode != 0
    assert service.worker_pids() == workers
    ann.say("LEAV")
    ann.hear("OK LEAV")


def test_it_runs_without_any_privilege(service: Service) -> None:
    run("systemctl", "start", "prefork-chat.service")
    for pid in [service.main_pid(), *service.worker_pids()]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        assert int(status["Uid"][0]) >= 61184  # systemd.exec(5), DynamicUser=
        assert status["CapPrm"] == status["CapBnd"] == ["0" * 16]
        assert status["NoNewPrivs"] == ["1"]
        assert status["Seccomp"] == ["2"]


def test_the_exposure_is_at_most_one_and_a_half(service: Service) -> None:
    run("systemd-analyze", "security", "--threshold=15", "prefork-chat.service")


def test_systemd_finds_no_fault_in_the_units(service: Service) -> None:
    result = subprocess.run(
        ["systemd-analyze", "verify", "prefork-chat.service", "prefork-chat.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
