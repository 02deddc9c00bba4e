"""What a program of the operator's gets of a real daemon, and that it does the daemon no harm."""

from __future__ import annotations

import mmap
import os
import select
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from prefork_chat import control
from prefork_chat.attachment import PAIRS, attach, receive
from prefork_chat.errors import NotRunning, OperationError
from prefork_chat.registry import layout
from tests.harness.processes import fd_count
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon


def test_the_registry_is_handed_over_to_be_read(daemon: Daemon) -> None:
    alice = daemon.join("Alice")
    with attach(daemon.directory) as attached:
        assert attached.registry.check(b"alice") is not None
        assert attached.registry.names() == [b"Alice"]
        assert attached.daemon.pid == daemon.pid
        assert attached.daemon.runtime_dir == str(daemon.directory)
        assert attached.daemon.listen == tuple(map(str, daemon.addresses))
        assert not attached.has_ended()
        alice.leave()
        until(lambda: attached.registry.check(b"alice") is None, "her name to go")


def test_what_is_handed_over_cannot_be_written_to(daemon: Daemon) -> None:
    with ExitStack() as undo:
        _, descriptors = receive(daemon.directory, ["registry"], undo)
        assert list(descriptors) == ["registry"]
        assert not os.get_inheritable(descriptors["registry"])
        with pytest.raises(PermissionError):
            mmap.mmap(descriptors["registry"], 64)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(descriptors["registry"], b"x")


def test_an_attachment_outlives_workers_and_notices_the_end(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    with attach(daemon.directory) as attached:
        daemon.replace_worker(1)
        assert attached.registry.table.snapshot()[1].incarnation == 2
        assert attached.registry.table.snapshot()[1].pid == daemon.worker_pid(1)
        assert not attached.has_ended()
        daemon.finish()
        assert select.select([attached.descriptors["supervisor"]], [], [], PATIENCE_SECONDS)[0]
        assert attached.has_ended()


def test_more_pairs_than_one_message_takes_come_in_several(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1, max_workers=64, threads=4)
    with attach(daemon.directory, PAIRS) as attached:
        expected = {f"process.{p_id}" for p_id in range(64)}
        expected |= {f"loop.{p_id}.{t_id}" for p_id in range(64) for t_id in range(4)}
        assert attached.descriptors.keys() == expected | {"registry", "supervisor"}
        inodes = {os.fstat(fd).st_ino for fd in attached.descriptors.values()}
        assert len(inodes) == len(attached.descriptors)


def test_whoever_attaches_costs_the_daemon_no_descriptor(daemon: Daemon) -> None:
    attach(daemon.directory, PAIRS).close()
    before = fd_count(daemon.pid)
    for _ in range(50):
        attach(daemon.directory, PAIRS).close()
    for _ in range(50):
        with control.connect(daemon.directory) as hasty:
            hasty.sendall(control.encode(control.Attach(("registry", "pairs"))))
    until(lambda: fd_count(daemon.pid) <= before, "descriptors to be closed")


def test_what_there_is_not_is_refused(daemon: Daemon) -> None:
    with pytest.raises(OperationError, match="there is no part 'keys'; there are registry, "):
        attach(daemon.directory, "keys")


def test_where_no_daemon_runs_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match=f"no daemon runs in {tmp_path}"):
        attach(tmp_path)


def test_a_registry_of_another_version_is_not_looked_at(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefork_chat.registry.registry.VERSION_NUMBER", layout.VERSION_NUMBER + 1)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OperationError, match=r"the daemon is of version 0\..* another registry"):
        attach(daemon.directory)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "the daemon has hung up$"),
        (b'{"kind":"failed","text":"no"}\n', "^no$"),
        (b'{"kind":"done","text":"nothing"}\n', "^not understood: Done"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, complaint: str
) -> None:
    ours, other = socket.socketpair()
    with other:
        other.sendall(answer)
        other.shutdown(socket.SHUT_WR)
        monkeypatch.setattr(control, "connect", lambda _: ours)
        with pytest.raises(OperationError, match=complaint):
            attach(tmp_path)


def test_a_daemon_that_goes_in_the_middle_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = socket.socketpair()
    other.close()
    monkeypatch.setattr(control, "connect", lambda _: ours)
    with pytest.raises(OperationError, match="the daemon has hung up: Broken pipe"):
        attach(tmp_path)
