from __future__ import annotations

import fcntl
import os
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from prefork_chat.errors import AlreadyRunning, StartError
from prefork_chat.supervisor.runtime import PIDFILE, RuntimeDirectory

if TYPE_CHECKING:
    from pathlib import Path


def test_directory_is_made_for_its_owner_alone(runtime_dir: Path) -> None:
    runtime = RuntimeDirectory.claim(runtime_dir)
    assert stat.S_IMODE(runtime_dir.stat().st_mode) == 0o700
    assert (runtime_dir / PIDFILE).read_text() == f"{os.getpid()}\n"
    runtime.release()
    assert os.listdir(runtime_dir) == []


def test_pidfile_of_a_dead_daemon_is_taken_over(runtime_dir: Path) -> None:
    runtime_dir.mkdir(mode=0o700)
    (runtime_dir / PIDFILE).write_text("4194303999\n")
    runtime = RuntimeDirectory.claim(runtime_dir)
    assert (runtime_dir / PIDFILE).read_text() == f"{os.getpid()}\n"
    runtime.release()


def test_second_claim_is_refused_and_names_the_pid(runtime_dir: Path) -> None:
    first = RuntimeDirectory.claim(runtime_dir)
    with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}.* runs in {runtime_dir}"):
        RuntimeDirectory.claim(runtime_dir)
    first.release()
    RuntimeDirectory.claim(runtime_dir).release()


def test_lock_that_a_child_lets_go_of_late_is_waited_for(runtime_dir: Path) -> None:
    """The child of a supervisor that was killed during the fork has not yet closed the pidfile."""
    runtime_dir.mkdir(mode=0o700)
    pidfile = runtime_dir / PIDFILE
    pidfile.write_text("")
    locked, lock = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(pidfile, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(lock, b"x")
        signal.pause()
    os.read(locked, 1)
    with pytest.raises(AlreadyRunning, match="pid 0"):
        RuntimeDirectory.claim(runtime_dir)
    os.kill(pid, signal.SIGKILL)
    RuntimeDirectory.claim(runtime_dir).release()
    os.waitpid(pid, 0)
    for fd in (locked, lock):
        os.close(fd)


def test_lock_on_a_pidfile_that_was_removed_meanwhile_does_not_count(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner ends between our open and our lock; the next start would lock another file."""
    owners = [RuntimeDirectory.claim(runtime_dir)]
    flock = fcntl.flock

    def flock_after_the_owner_has_ended(fd: int, operation: int) -> None:
        if owners:
            owners.pop().release()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_the_owner_has_ended)
    runtime = RuntimeDirectory.claim(runtime_dir)
    assert (runtime_dir / PIDFILE).read_text() == f"{os.getpid()}\n"
    with pytest.raises(AlreadyRunning):
        RuntimeDirectory.claim(runtime_dir)
    runtime.release()


def test_directory_that_others_can_write_to_is_refused(runtime_dir: Path) -> None:
    runtime_dir.mkdir()
    runtime_dir.chmod(0o777)
    with pytest.raises(StartError, match=r"writable for others \(mode 0777\)"):
        RuntimeDirectory.claim(runtime_dir)


def test_directory_of_another_user_is_refused(runtime_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    runtime_dir.mkdir(mode=0o700)
    os.chown(runtime_dir, 65534, 65534)
    with pytest.raises(StartError, match="belongs to uid 65534"):
        RuntimeDirectory.claim(runtime_dir)


def test_another_users_symbolic_link_is_refused(runtime_dir: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a link away")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    runtime_dir.symlink_to(tmp_path / "elsewhere")
    os.lchown(runtime_dir, 65534, 65534)
    with pytest.raises(StartError, match="another user's symbolic link"):
        RuntimeDirectory.claim(runtime_dir)
    runtime_dir.unlink()


def test_own_symbolic_link_is_followed(runtime_dir: Path, tmp_path: Path) -> None:
    """As systemd makes one for RuntimeDirectory= of a DynamicUser=."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    runtime_dir.symlink_to(tmp_path / "elsewhere")
    RuntimeDirectory.claim(runtime_dir).release()


def test_path_that_is_no_directory_is_a_clear_error(runtime_dir: Path) -> None:
    runtime_dir.write_text("")
    with pytest.raises(StartError, match=rf"runtime directory {runtime_dir}: File exists"):
        RuntimeDirectory.claim(runtime_dir)
    runtime_dir.unlink()


def test_pidfile_that_is_a_link_is_not_followed(runtime_dir: Path, tmp_path: Path) -> None:
    runtime_dir.mkdir(mode=0o700)
    (tmp_path / "precious").write_text("precious")
    (runtime_dir / PIDFILE).symlink_to(tmp_path / "precious")
    with pytest.raises(StartError, match=PIDFILE):
        RuntimeDirectory.claim(runtime_dir)
    assert (tmp_path / "precious").read_text() == "precious"


def test_directory_that_was_moved_keeps_its_lock(runtime_dir: Path, tmp_path: Path) -> None:
    runtime = RuntimeDirectory.claim(runtime_dir)
    runtime_dir.rename(tmp_path / "moved")
    with pytest.raises(AlreadyRunning):
        RuntimeDirectory.claim(tmp_path / "moved")
    runtime.release()
    assert os.listdir(tmp_path / "moved") == []
