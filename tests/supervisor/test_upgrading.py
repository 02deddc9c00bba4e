"""Upgrades of a real supervisor, which becomes another program while its workers serve."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_chat import control
from prefork_chat.errors import UpgradeError
from prefork_chat.registry.table import Order
from prefork_chat.supervisor import deed as deeds
from prefork_chat.supervisor.children import Child, Phase
from prefork_chat.supervisor.deed import Deed
from prefork_chat.supervisor.upgrading import VARIABLE, take_handover
from tests.harness.waiting import PATIENCE_SECONDS
from tests.supervisor.conftest import ROOT
from tests.supervisor.people import until
from tests.supervisor.test_admin import ctl, ctl_json
from tests.supervisor.test_notify import hear

if TYPE_CHECKING:
    from tests.supervisor.conftest import StartDaemon
    from tests.supervisor.daemon import Daemon
    from tests.supervisor.people import Room


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the program, which a test may change while a daemon runs it."""
    root = tmp_path / "installed"
    for package in ("prefork_chat", "tests/supervisor"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__py*"))
    (root / "tests" / "__init__.py").touch()
    return root


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    # By second and size of the source its old compiled form may still seem to be of it.
    Path(cache_from_source(path)).unlink(missing_ok=True)


def upgrade(daemon: Daemon, count: int = 1) -> None:
    """Have it upgraded for the `count`th time and wait until all its workers are new."""
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("replacement.finished", count=count, reason="upgrade")


def open_files(pid: int) -> list[str]:
    """Return what a process has open: kinds of sockets and the like, and paths."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry).partition(":")[0])
        except FileNotFoundError:
            continue  # closed meanwhile
    return sorted(found)


def test_nobody_notices_an_upgrade_but_by_the_new_workers(room: Room, runtime_dir: Path) -> None:
    daemon = room.open(people=10)
    identity = (runtime_dir / "supervisor.pid").stat().st_ino
    upgrade(daemon)
    assert {generation for _, generation in room.ask_all()} == {2}
    room.enter()
    assert {line["pid"] for line in daemon.events("supervisor.resumed")} == {daemon.pid}
    assert (runtime_dir / "supervisor.pid").stat().st_ino == identity
    assert (runtime_dir / "supervisor.pid").read_text() == f"{daemon.pid}\n"
    assert len(daemon.events("supervisor.ready")) == 1
    assert daemon.stop() == 0
    assert [person.hear() for person in room.people] == ["stop"] * 11


def test_upgrade_after_upgrade_leaks_nothing_and_stays_whole(
    room: Room, runtime_dir: Path, tmp_path: Path
) -> None:
    """gunicorn #255: USR2 twice broke the pidfile; #476: the socket file went."""
    path = tmp_path / "chat.sock"
    daemon = room.open(people=5, server={"listen": ["127.0.0.1:0", f"unix:{path}"]})
    upgrade(daemon)
    room.ask_all()
    before = open_files(daemon.pid)
    for count in range(2, 6):
        upgrade(daemon, count)
        assert {generation for _, generation in room.ask_all()} == {count + 1}
    assert open_files(daemon.pid) == before
    assert len(os.listdir(f"/proc/{daemon.pid}/task")) == 1
    assert path.is_socket()
    assert os.listdir(runtime_dir).count("supervisor.pid") == 1
    second = room.start_daemon("echo")
    assert second.wait() == 3, "the lock has never been let go of"
    assert daemon.stop() == 0
    assert not path.exists()


def test_worker_that_left_before_an_upgrade_is_counted_on_from_when_it_comes_back(
    room: Room,
) -> None:
    """The table of workers in shared memory takes no generation twice."""
    daemon = room.open(people=2, server={"workers": 2})
    daemon.send(signal.SIGTTOU)
    daemon.wait_for("worker.exited", p_id=1, meaning="left")
    daemon.configure(server={"workers": 1})
    upgrade(daemon)
    daemon.send(signal.SIGTTIN)
    daemon.wait_for("worker.ready", p_id=1, generation=2)
    daemon.send(signal.SIGTTOU)
    daemon.wait_for("worker.exited", p_id=1, count=2, meaning="left")
    daemon.configure(server={"workers": 3})
    upgrade(daemon, 2)
    daemon.wait_for("worker.ready", p_id=1, generation=3)
    daemon.wait_for("worker.ready", p_id=2, generation=1)
    room.ask_all()
    assert daemon.stop() == 0


def test_workers_serve_while_the_supervisor_is_tried_and_executed(room: Room) -> None:
    daemon = room.open(people=4)
    daemon.send(signal.SIGUSR2)
    seen: set[tuple[int, int]] = set()

    def is_over() -> bool:
        seen.update(room.ask_all())
        return bool(daemon.events("replacement.finished"))

    until(is_over, "the upgrade to be over")
    assert {generation for _, generation in seen} == {1, 2}
    assert daemon.stop() == 0


def test_worker_killed_during_an_upgrade_is_adopted(room: Room) -> None:
    daemon = room.open(people=6)
    for count in range(1, 4):
        pids = daemon.worker_pids()
        daemon.send(signal.SIGUSR2)
        daemon.wait_for("upgrade.begun", count=count)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        daemon.wait_for("replacement.finished", count=count, reason="upgrade")
        room.ask_all()
    assert daemon.stop() == 0


def test_signals_during_an_upgrade_are_not_lost(room: Room) -> None:
    daemon = room.open(people=2, server={"workers": 1})
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("upgrade.begun")
    sent = 0
    while not daemon.events("supervisor.resumed"):
        daemon.send(signal.SIGUSR1)
        sent += 1
    daemon.send(signal.SIGTTIN)
    daemon.wait_for("worker.ready", p_id=1)
    assert sent
    assert len(daemon.events("log.reopened")) > 0
    assert daemon.stop() == 0


def test_what_was_added_by_hand_stays_fixed_and_the_rest_is_read_anew(room: Room) -> None:
    daemon = room.open(people=3, server={"workers": 1, "threads": 2})
    daemon.configure(server={"workers": 3, "threads": 4})
    upgrade(daemon)
    (resumed,) = daemon.events("supervisor.resumed")
    assert (resumed["workers"], resumed["threads"]) == (3, 2)
    until(lambda: len(daemon.worker_pids()) == 3, "three workers")
    assert daemon.stop() == 0


def test_clients_that_leave_before_and_after_are_let_go(room: Room) -> None:
    daemon = room.open(people=0)
    upgrade(daemon)
    before = open_files(daemon.pid)
    for _ in range(6):
        room.enter()
    for person in room.people[:3]:
        person.close()
    upgrade(daemon, 2)
    for person in room.people[3:]:
        person.ask()
        person.close()
    room.people.clear()
    until(lambda: open_files(daemon.pid) == before, "the keeper to let them go")
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (("supervisor/supervisor.py", "class Supervisor", "class class"), "SyntaxError"),
        (("supervisor/keeper.py", "import select", "import no_such"), "no_such"),
        (("supervisor/deed.py", "VERSION: Final = 1", "VERSION: Final = 2"), "state has version 1"),
        (("inheritance.py", "COMPATIBILITY: Final = ", "COMPATIBILITY: Final = 9"), "worker inter"),
        (("registry/layout.py", "VERSION_NUMBER: Final = ", "VERSION_NUMBER: Final = 9"), "layout"),
    ],
)
def test_program_that_cannot_take_over_is_not_executed(
    room: Room, installed: Path, edit: tuple[str, str, str], reason: str
) -> None:
    daemon = room.open(people=3, root=installed)
    file, old, new = edit
    change(installed / "prefork_chat" / file, old, new)
    daemon.send(signal.SIGUSR2)
    (rejected,) = daemon.wait_for("upgrade.rejected")
    assert reason in rejected["reason"]
    assert {generation for _, generation in room.ask_all()} == {1}
    change(installed / "prefork_chat" / file, new, old)
    upgrade(daemon)
    assert {generation for _, generation in room.ask_all()} == {2}
    assert daemon.stop() == 0


def test_upgrade_runs_the_program_that_is_installed_now(room: Room, installed: Path) -> None:
    daemon = room.open(people=3, root=installed)
    change(installed / "prefork_chat" / "__init__.py", '__version__ = "', '__version__ = "9.')
    upgrade(daemon)
    (resumed,) = daemon.events("supervisor.resumed")
    assert resumed["version"].startswith("9.")
    assert daemon.stop() == 0


def test_wrong_configuration_leaves_the_running_program(room: Room, runtime_dir: Path) -> None:
    daemon = room.open(people=2)
    daemon.configure(server={"workers": "many"})
    said = ctl(runtime_dir, "upgrade", code=1)
    assert "server.workers" in said
    assert {generation for _, generation in room.ask_all()} == {1}
    assert daemon.stop() == 0


def test_program_that_is_not_there_leaves_the_running_one(
    room: Room, installed: Path, runtime_dir: Path
) -> None:
    daemon = room.open(people=2, root=installed)
    (installed / "tests" / "supervisor" / "program.py").unlink()
    said = ctl(runtime_dir, "upgrade", code=1)
    assert said.startswith("prefork-chat: upgrade: ")
    assert "exit 1" in said
    room.ask_all()
    assert daemon.stop() == 0


def test_interpreter_that_is_gone_leaves_the_running_program(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("without_interpreter")
    daemon.wait_for("supervisor.ready")
    daemon.send(signal.SIGUSR2)
    (rejected,) = daemon.wait_for("upgrade.rejected")
    assert rejected["reason"] == "/gone/python3: No such file or directory (exit 127)"
    daemon.connect().close()
    assert daemon.stop() == 0


def test_trial_that_does_not_end_is_killed(room: Room, installed: Path, runtime_dir: Path) -> None:
    upgrading = installed / "prefork_chat" / "supervisor" / "upgrading.py"
    change(upgrading, "TRIAL_NS: Final = 30 * NANOSECONDS", "TRIAL_NS: Final = NANOSECONDS")
    daemon = room.open(people=2, root=installed)
    change(upgrading, "import os\n", "import os\nimport time\n\ntime.sleep(3600)\n")
    said = ctl(runtime_dir, "upgrade", code=1)
    assert said == "prefork-chat: upgrade: it says nothing (SIGKILL)\n"
    assert {generation for _, generation in room.ask_all()} == {1}
    assert daemon.stop() == 0


def test_who_is_about_to_ask_is_heard_by_the_next_program(room: Room, runtime_dir: Path) -> None:
    daemon = room.open(people=1)
    question = control.encode(control.Workers())
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(str(runtime_dir / control.SOCKET_NAME))
        peer.sendall(question[:10])
        assert len(ctl_json(runtime_dir, "workers")) == 2, "the first half has been read"
        upgrade(daemon)
        peer.sendall(question[10:])
        with peer.makefile("rb") as lines:
            assert len([control.decode_answer(line) for line in lines]) == 3
    assert daemon.stop() == 0


def test_ctl_waits_until_all_workers_are_new(room: Room, runtime_dir: Path) -> None:
    daemon = room.open(people=2)
    for generation in (2, 3):
        said = ctl(runtime_dir, "upgrade")
        assert said.startswith("upgrade: 2 workers replaced in ")
        assert {ready for _, ready in room.ask_all()} == {generation}
    assert daemon.stop() == 0


def test_second_upgrade_while_one_is_tried_is_refused(room: Room) -> None:
    daemon = room.open(people=1)
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("upgrade.begun")
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("operation.refused", reason="an upgrade is under way")
    daemon.wait_for("replacement.finished")
    assert daemon.stop() == 0


def test_stop_during_a_trial_ends_the_daemon(room: Room) -> None:
    daemon = room.open(people=1)
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("upgrade.begun")
    assert daemon.stop() == 0
    daemon.wait_until_nobody_survives(5.0)
    assert not daemon.events("supervisor.resumed")


def test_upgraded_daemon_still_tells_systemd(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """gunicorn #2856: another pid, and systemd killed the unit."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_SECONDS)
        environ = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "100000"}
        daemon = start_daemon(environ=environ)
        daemon.wait_for("supervisor.ready")
        upgrade(daemon)
        drop_all(systemd)
        while "WATCHDOG" not in hear(systemd):
            pass
        assert daemon.stop() == 0
        while "STOPPING" not in hear(systemd):
            pass


def drop_all(receiver: socket.socket) -> None:
    """Forget what has been heard up to now."""
    while select.select([receiver], [], [], 0)[0]:
        receiver.recv(4096)


def test_deed_is_read_as_it_was_written() -> None:
    child = Child(3, Phase.READY, 7, 4711, 1, 2, 3, Order.LEAVE)
    deed = make_deed(children=[deeds.write_child(child)], peers=[b"half", None])
    again = deeds.decode(deeds.encode(deed))
    assert again == deed
    assert deeds.read_child(again.children[0]) == child


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa7version\x01"])
def test_what_is_no_deed_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(UpgradeError, match="the running daemon's"):
        deeds.decode(data)


def test_program_that_was_started_afresh_has_no_handover() -> None:
    for value in ({}, {VARIABLE: "resume:"}, {VARIABLE: "nonsense:3"}):
        environ = dict(value)
        assert take_handover(environ) is None
        assert environ == {}


def make_deed(**fields: object) -> Deed:
    values: dict[str, object] = {
        "begun_ns": 1,
        "runtime_dir": "/run/x",
        "fixed": {},
        "semaphores": {"write": 1, "accept": 2},
        "places": 8,
        "threads": 2,
        "listeners": 1,
        "files": [],
        "kept": [(1, 2)],
        "undelivered": [(1, 1, 2)],
        "children": [],
    }
    return Deed(**{**values, **fields})  # type: ignore[arg-type]
