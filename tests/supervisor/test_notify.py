from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from prefork_chat.supervisor.notify import FIRST_LISTEN_FD, Notifier, take_listen_fds
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.supervisor.conftest import StartDaemon

# Moves the sockets given by their numbers to 3, 4 … as systemd does, and becomes the program.
ACTIVATE = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
for wanted, fd in enumerate([os.dup2(fd, 100 + fd) for fd in fds], start=3):
    os.dup2(fd, wanted)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, sys.argv[2:])
"""


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE_SECONDS)
        yield listener


def hear(systemd: socket.socket) -> dict[str, str]:
    lines = systemd.recv(4096).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_messages_are_systemds(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready("2 of 2")
    assert hear(systemd) == {"READY": "1", "STATUS": "2 of 2"}
    notifier.watchdog()
    assert hear(systemd) == {"WATCHDOG": "1"}
    notifier.stopping("told to")
    assert hear(systemd) == {"STOPPING": "1", "STATUS": "told to"}
    notifier.close()


def test_status_is_told_when_it_is_news(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    for status in ("one", "one", "two", "two"):
        notifier.status(status)
    notifier.watchdog()
    assert [hear(systemd) for _ in range(3)] == [
        {"STATUS": "one"},
        {"STATUS": "two"},
        {"WATCHDOG": "1"},
    ]
    notifier.close()


def test_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0prefork-chat-test-{os.getpid()}")
        listener.settimeout(PATIENCE_SECONDS)
        notifier = Notifier({"NOTIFY_SOCKET": f"@prefork-chat-test-{os.getpid()}"})
        notifier.watchdog()
        assert hear(listener) == {"WATCHDOG": "1"}
        notifier.close()


@pytest.mark.parametrize("address", ["", "/nobody/listens/here", "vsock:2:1234", "relative"])
def test_telling_nobody_is_no_error(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address} if address else {})
    notifier.ready("ready")
    notifier.close()
    notifier.watchdog()


def test_no_child_finds_the_variables(systemd: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "1", "OTHER": "stays"}
    Notifier(environ).close()
    assert environ == {"OTHER": "stays"}


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_wants_to_hear_us_twice_in_its_time(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(dict(environ)).watchdog_seconds == seconds


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "2"}, {"LISTEN_PID": str(os.getpid())}],
)
def test_descriptors_for_somebody_else_are_not_ours(environ: dict[str, str]) -> None:
    environ = dict(environ)
    assert take_listen_fds(environ) == ()
    assert environ == {}


def test_passed_descriptors_have_their_names_and_are_closed_on_exec() -> None:
    code = f"""
import os
from prefork_chat.supervisor.notify import take_listen_fds
environ = {{"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "chat"}}
passed = take_listen_fds(environ)
assert [(p.fd, p.name) for p in passed] == [({FIRST_LISTEN_FD}, "chat"), (4, "unknown")], passed
assert not os.get_inheritable(3) and not os.get_inheritable(4)
assert environ == {{}}
"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fds = f"{listener.fileno()},{listener.fileno()}"
        subprocess.run(
            [sys.executable, "-c", ACTIVATE, fds, sys.executable, "-c", code],
            pass_fds=[listener.fileno()],
            check=True,
            timeout=PATIENCE_SECONDS,
        )


def test_daemon_tells_systemd_of_its_life(
    start_daemon: StartDaemon, systemd: socket.socket
) -> None:
    environ = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "100000"}
    daemon = start_daemon(environ=environ)
    messages: list[dict[str, str]] = []
    while not messages or "READY" not in messages[-1]:
        messages.append(hear(systemd))
    assert messages[-1]["STATUS"].startswith("2 of 2 workers ready; 127.0.0.1:")
    for _ in range(5):
        assert hear(systemd) == {"WATCHDOG": "1"}
    daemon.send(signal.SIGTERM)
    while "STOPPING" not in messages[-1]:
        messages.append(hear(systemd))
    assert messages[-1]["STATUS"] == "stopping: SIGTERM"
    assert daemon.wait() == 0


def test_crashing_workers_show_as_degraded(
    start_daemon: StartDaemon, systemd: socket.socket
) -> None:
    daemon = start_daemon(
        "crash",
        environ={"NOTIFY_SOCKET": systemd.getsockname()},
        server={"workers": 1},
        respawn={"backoff_min_seconds": 0.05, "backoff_max_seconds": 0.1, "max_crashes": 3},
    )
    statuses: list[str] = []
    while not statuses or not statuses[-1].startswith("stopping"):
        statuses.append(hear(systemd)["STATUS"])
    (first,) = (status for status in statuses if "crashed 1x" in status)
    assert first.startswith("degraded: worker 0 crashed 1x; 0 of 1 workers ready; 127")
    assert statuses[-1] == "stopping: worker 0 has crashed 3 times in a row"
    assert daemon.wait() == 1


def test_the_status_is_good_again_when_a_successor_lives_on(
    start_daemon: StartDaemon, systemd: socket.socket
) -> None:
    daemon = start_daemon(
        "greet",
        environ={"NOTIFY_SOCKET": systemd.getsockname()},
        server={"workers": 1},
        respawn={"quick_death_seconds": 0.5, "backoff_min_seconds": 0.05},
    )
    daemon.wait_for("supervisor.ready")
    os.kill(daemon.worker_pids()[0], signal.SIGKILL)
    while not hear(systemd).get("STATUS", "").startswith("degraded: worker 0 crashed 1x"):
        pass
    while not hear(systemd).get("STATUS", "").startswith("1 of 1 workers ready"):
        pass
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0


def test_passed_sockets_are_served_in_place_of_the_configured_ones(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    path = str(tmp_path / "activated.sock")
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.create_server(path, family=socket.AF_UNIX) as unix,
    ):
        fds = f"{tcp.fileno()},{unix.fileno()}"
        daemon = start_daemon(
            "greet",
            prefix=(sys.executable, "-c", ACTIVATE, fds),
            environ={"LISTEN_FDS": "2"},
            pass_fds=(tcp.fileno(), unix.fileno()),
        )
        daemon.wait_for("supervisor.ready")
        address = f"127.0.0.1:{tcp.getsockname()[1]}"
        opened = [line["address"] for line in daemon.events("listener.opened")]
        assert opened == [address, f"unix:{path}"]
        for target, family in ((tcp.getsockname(), socket.AF_INET), (path, socket.AF_UNIX)):
            with socket.socket(family) as client:
                client.settimeout(PATIENCE_SECONDS)
                client.connect(target)
                assert int(client.makefile().readline()) in daemon.worker_pids()
        assert daemon.stop() == 0
    assert os.path.lexists(path)  # systemd's, not ours


def test_passed_descriptor_that_does_not_listen_is_a_clear_error(
    start_daemon: StartDaemon,
) -> None:
    with socket.socket() as idle:
        daemon = start_daemon(
            prefix=(sys.executable, "-c", ACTIVATE, str(idle.fileno())),
            environ={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "chat"},
            pass_fds=(idle.fileno(),),
        )
        assert daemon.wait() == 1
    assert daemon.text[0].startswith("prefork-chat: descriptor 3 (chat) from systemd is not a")
