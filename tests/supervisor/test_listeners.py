from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from prefork_chat.config import ServerConfig
from prefork_chat.errors import ListenError
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.listeners import ListenerOpener, Listeners, describe
from prefork_chat.supervisor.runtime import RuntimeDirectory
from prefork_chat.supervisor.socketfile import is_listened_to
from tests.harness.ipc import left_in
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.supervisor.conftest import StartDaemon

Open = Callable[..., Listeners]


def wait(seconds: float) -> bool:
    time.sleep(seconds)
    return True


@pytest.fixture
def open_listeners(runtime_dir: Path) -> Iterator[Open]:
    runtime = RuntimeDirectory.claim(runtime_dir)
    ledger = Ledger(runtime)
    opened: list[Listeners] = []

    def open_them(*addresses: str, mode: str = "0666") -> Listeners:
        config = ServerConfig(listen=addresses, unix_socket_mode=mode, backlog=5)
        opened.append(ListenerOpener(config, ledger, wait).open([]))
        return opened[-1]

    yield open_them
    for listeners in opened:
        listeners.close()
    ledger.forget()
    runtime.release()
    assert left_in(runtime_dir) == []


def can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_all_families_are_opened_at_once(open_listeners: Open, tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    listeners = open_listeners("127.0.0.1:0", "[::1]:0", f"unix:{path}")
    families = [listener.family for listener in listeners.sockets]
    assert families == [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
    assert all(not listener.getblocking() for listener in listeners.sockets)
    for listener in listeners.sockets:
        with socket.socket(listener.family) as client:
            client.settimeout(PATIENCE_SECONDS)
            client.connect(listener.getsockname())
    assert describe(listeners.sockets[1]).startswith("[::1]:")


def test_ipv4_and_ipv6_of_one_port_do_not_disturb_each_other(open_listeners: Open) -> None:
    port = open_listeners("0.0.0.0:0").sockets[0].getsockname()[1]
    assert describe(open_listeners(f"[::]:{port}").sockets[0]) == f"[::]:{port}"


def test_name_with_several_addresses_is_opened_at_each(open_listeners: Open) -> None:
    known = {info[4] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    assert len(open_listeners("localhost:0").sockets) == len(known)


@pytest.mark.parametrize("mode", ["0666", "0600", "660"])
def test_unix_socket_has_its_mode_from_the_first_moment(
    open_listeners: Open, tmp_path: Path, mode: str
) -> None:
    old = os.umask(0o077)
    try:
        open_listeners(f"unix:{tmp_path}/s", mode=mode)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "s").lstat().st_mode) == int(mode, 8)


def test_stale_socket_file_is_replaced(open_listeners: Open, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert not can_connect(path)
    open_listeners(f"unix:{path}")
    assert can_connect(path)


def test_socket_file_where_somebody_listens_is_a_clear_error(
    open_listeners: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefork_chat.supervisor.listeners.BUSY_SECONDS", 0.2)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(ListenError, match=rf"unix:{path}: address in use"):
            open_listeners(f"unix:{path}")
        assert can_connect(path)


def test_full_backlog_counts_as_somebody_who_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        assert all(is_listened_to(path) for _ in range(5))
    assert not is_listened_to(path)


def test_datagram_socket_in_the_way_is_not_touched(
    open_listeners: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefork_chat.supervisor.listeners.BUSY_SECONDS", 0.0)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as living:
        living.bind(str(path))
        with pytest.raises(ListenError, match="address in use"):
            open_listeners(f"unix:{path}")
        assert path.exists()


def test_file_in_the_way_is_a_clear_error_and_stays(open_listeners: Open, tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="exists and is not a socket"):
        open_listeners(f"unix:{path}")
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("unix:/nowhere/at/all/s", "its directory does not exist"),
        ("no-such-host.invalid:0", "not known|failure|No address"),
        ("a..b:0", "not a host name|not known|failure|No address"),
    ],
)
def test_impossible_address_is_a_clear_error(
    open_listeners: Open, address: str, reason: str
) -> None:
    with pytest.raises(ListenError, match=rf"{address}: .*({reason})"):
        open_listeners(address)


def test_failure_of_one_address_closes_and_unlinks_the_others(
    open_listeners: Open, tmp_path: Path
) -> None:
    with pytest.raises(ListenError):
        open_listeners(f"unix:{tmp_path}/s", "no-such-host.invalid:0")
    assert not (tmp_path / "s").exists()


def test_relative_path_is_unlinked_wherever_one_is_then(
    open_listeners: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listeners = open_listeners("unix:s")
    monkeypatch.chdir("/")
    listeners.close()
    assert not (tmp_path / "s").exists()


def test_closing_unlinks_the_own_socket_only(open_listeners: Open, tmp_path: Path) -> None:
    path = tmp_path / "s"
    old = open_listeners(f"unix:{path}")
    path.unlink()
    new = open_listeners(f"unix:{path}")
    old.close()
    assert can_connect(path)
    new.close()
    assert not path.exists()
    new.close()


def test_old_daemon_does_not_unlink_the_new_ones_socket(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """gunicorn #476: the master that went away took its successor's socket with it."""
    path = tmp_path / "chat.sock"
    server = {"listen": [f"unix:{path}"]}
    old = start_daemon(server=server, directory=tmp_path / "old")
    old.wait_for("supervisor.ready")
    path.unlink()
    new = start_daemon("greet", server=server, directory=tmp_path / "new")
    new.wait_for("supervisor.ready")
    assert old.stop() == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(path))
        assert int(client.makefile().readline()) in new.worker_pids()
    assert new.stop() == 0
    assert not path.exists()


def test_killed_daemon_does_not_cost_the_new_one_its_socket(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """Another daemon took the path over; the killed one's next start must leave it alone."""
    path = tmp_path / "chat.sock"
    server = {"listen": [f"unix:{path}"]}
    old = start_daemon(server=server, directory=tmp_path / "old")
    old.wait_for("supervisor.ready")
    old.kill()
    old.wait_until_nobody_survives(seconds=5.0)
    new = start_daemon(server=server, directory=tmp_path / "new")
    new.wait_for("supervisor.ready")
    again = start_daemon(directory=tmp_path / "old")
    again.wait_for("leftover.kept", kind="socket", name=str(path))
    assert can_connect(path)
    assert again.wait_for("supervisor.ready")
    assert (again.stop(), new.stop()) == (0, 0)
