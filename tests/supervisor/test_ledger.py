from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import posix_ipc
import pytest

from prefork_chat.errors import StartError
from prefork_chat.registry.ipc import Semaphore
from prefork_chat.supervisor.ledger import OBJECTS_FILE, Ledger
from prefork_chat.supervisor.runtime import RuntimeDirectory
from prefork_chat.supervisor.socketfile import read_identity
from tests.harness.ipc import left_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def runtime(runtime_dir: Path) -> Iterator[RuntimeDirectory]:
    runtime = RuntimeDirectory.claim(runtime_dir)
    yield runtime
    Ledger(runtime).remove_leftovers()
    runtime.release()
    assert left_in(runtime_dir) == []


@pytest.fixture
def ledger(runtime: RuntimeDirectory) -> Ledger:
    return Ledger(runtime)


def bind(path: Path, *, is_listening: bool) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    if is_listening:
        listener.listen()
    return listener


def test_keys_differ_by_directory_purpose_and_attempt(ledger: Ledger, tmp_path: Path) -> None:
    other_dir = RuntimeDirectory.claim(tmp_path / "other")
    other = Ledger(other_dir)
    keys = [
        whose.semaphore_key(purpose, attempt)
        for whose in (ledger, other)
        for purpose in ("accept", "write")
        for attempt in range(16)
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 < key < 1 << 31 for key in keys)
    assert ledger.memory_name("registry", 0) != other.memory_name("registry", 0)
    other_dir.release()


def test_leftovers_are_removed_by_the_next_ledger(
    runtime: RuntimeDirectory, runtime_dir: Path
) -> None:
    Ledger(runtime).make_semaphore("accept", 1)
    Ledger(runtime).make_semaphore("write", 1)
    left = ["semaphore accept 0", "semaphore write 0"]
    assert [name for name in left_in(runtime_dir) if name.startswith("sem")] == left
    Ledger(runtime).remove_leftovers()
    assert left_in(runtime_dir) == ["supervisor.pid"]
    Ledger(runtime).remove_leftovers()  # nothing to do is no error


def test_memory_of_a_start_killed_before_it_lost_its_name_is_removed(
    ledger: Ledger, runtime_dir: Path
) -> None:
    ledger.make_memory("registry", 64).close()
    name = ledger.memory_name("registry", 0)
    posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=1).close_fd()
    ledger.remove_leftovers()
    assert not os.path.lexists(f"/dev/shm{name}")


def test_strangers_objects_under_our_keys_are_passed_over_and_left_alone(
    ledger: Ledger, runtime_dir: Path
) -> None:
    stranger = Semaphore.create(ledger.semaphore_key("accept", 0), 7)
    memory = posix_ipc.SharedMemory(ledger.memory_name("registry", 0), posix_ipc.O_CREX, size=1)
    try:
        assert ledger.make_semaphore("accept", 1).key == ledger.semaphore_key("accept", 1)
        ledger.make_memory("registry", 64).close()
        ledger.remove_leftovers()
        assert stranger.value == 7
        assert os.path.lexists(f"/dev/shm{ledger.memory_name('registry', 0)}")
        assert "semaphore accept 1" not in left_in(runtime_dir)
    finally:
        stranger.remove()
        memory.close_fd()
        memory.unlink()


def test_only_the_last_attempt_of_a_purpose_counts(ledger: Ledger, runtime_dir: Path) -> None:
    """A stranger was quicker between our look and our attempt; the next line supersedes."""
    stranger = Semaphore.create(ledger.semaphore_key("accept", 0), 1)
    try:
        (runtime_dir / OBJECTS_FILE).write_text(
            '["semaphore", "accept", 0]\n["semaphore", "accept", 1]\n'
        )
        ledger.remove_leftovers()
        assert stranger.value == 1
    finally:
        stranger.remove()


def test_copied_directory_leads_to_nobodys_objects(
    runtime: RuntimeDirectory, ledger: Ledger, runtime_dir: Path, tmp_path: Path
) -> None:
    semaphore = ledger.make_semaphore("accept", 1)
    shutil.copytree(runtime_dir, tmp_path / "copy")
    (tmp_path / "copy").chmod(0o700)
    copy = RuntimeDirectory.claim(tmp_path / "copy")
    Ledger(copy).remove_leftovers()
    assert semaphore.value == 1
    copy.release()


def test_torn_and_foreign_lines_are_passed_over(ledger: Ledger, runtime_dir: Path) -> None:
    ledger.make_semaphore("accept", 1)
    with (runtime_dir / OBJECTS_FILE).open("ab") as file:
        file.write(b'{"kind": 1}\n["fifo", "x", 0]\n\xff\n["semaphore", "wri')
    ledger.remove_leftovers()
    assert left_in(runtime_dir) == ["supervisor.pid"]


def test_full_disk_is_an_error_before_the_object_is_made(tmp_path: Path) -> None:
    """A tmpfs of one page and a file that fills it."""
    program = """
import os, sys
from pathlib import Path
from prefork_chat.errors import StartError
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.runtime import RuntimeDirectory
from tests.harness.ipc import left_in
directory = Path(sys.argv[1])
runtime = RuntimeDirectory.claim(directory)
(directory / "filler").write_bytes(b"x" * 4096)
try:
    Ledger(runtime).make_semaphore("accept", 1)
except StartError as error:
    assert "No space left on device" in str(error), error
    assert not [name for name in left_in(directory) if name.startswith("sem")]
else:
    sys.exit("made a semaphore that nobody would find")
"""
    mount = f"mount -t tmpfs -o size=8k,mode=0700 none {tmp_path} && exec "
    mount += '"$0" -c "$1" "$2"'
    command = ["unshare", "--mount", "sh", "-c", mount, sys.executable, program, str(tmp_path)]
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"unshare is not permitted: {probe.stderr.decode().strip()}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_sixteen_strangers_are_an_error_that_names_the_purpose(ledger: Ledger) -> None:
    strangers = [
        Semaphore.create(ledger.semaphore_key("accept", attempt), 1) for attempt in range(16)
    ]
    try:
        with pytest.raises(StartError, match="semaphore for accept: 16 keys are all taken"):
            ledger.make_semaphore("accept", 1)
    finally:
        for stranger in strangers:
            stranger.remove()


def test_announced_socket_where_nobody_listens_is_removed(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "s"
    ledger.announce_socket(str(path))
    bind(path, is_listening=False).close()
    ledger.remove_leftovers()
    assert not path.exists()


def test_confirmed_socket_is_removed_though_orphaned_workers_listen_there(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    ledger.announce_socket(str(path))
    with bind(path, is_listening=True):
        identity = read_identity(str(path))
        assert identity is not None
        ledger.confirm_socket(str(path), identity)
        ledger.remove_leftovers()
    assert not path.exists()


def test_socket_that_somebody_else_has_put_in_the_place_is_left_alone(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    ledger.announce_socket(str(path))
    with bind(path, is_listening=True):
        identity = read_identity(str(path))
        assert identity is not None
        ledger.confirm_socket(str(path), identity)
    path.unlink()
    with bind(path, is_listening=True):
        ledger.remove_leftovers()
        assert path.exists()


def test_file_that_is_no_socket_is_left_alone(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "s"
    ledger.announce_socket(str(path))
    path.write_text("precious")
    ledger.remove_leftovers()
    assert path.read_text() == "precious"
