"""accounts.db: what it keeps, through kills, and what its failures look like."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from prefork_chat.accounts import store as stores
from prefork_chat.accounts.store import FILE, Account, Store, StoreFailed
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

ALICE = Account("a hash", None)


def made(state_dir: Path) -> Store:
    store = Store.open(state_dir, create=True)
    assert store is not None
    return store


def test_nothing_is_made_before_the_first_account(tmp_path: Path) -> None:
    assert Store.open(tmp_path / "state", create=False) is None
    assert not (tmp_path / "state").exists()


def test_directory_and_file_are_for_the_daemon_s_user_alone(tmp_path: Path) -> None:
    state_dir = tmp_path / "a" / "state"
    with made(state_dir) as store:
        store.add(b"alice", b"Alice", ALICE)
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((state_dir / FILE).stat().st_mode) == 0o600
    assert os.listdir(state_dir) == [FILE]


def test_an_account_is_found_by_its_key_by_whoever_opens_the_file(tmp_path: Path) -> None:
    with made(tmp_path) as store:
        assert store.find(b"alice") is None
        assert store.add(b"alice", b"Alice", ALICE)
        assert store.add(b"bob", b"bob", Account(None, 1000))
    with made(tmp_path) as again:
        assert again.find(b"alice") == ALICE
        assert again.find(b"bob") == Account(None, 1000)
        assert again.find(b"Alice") is None
        assert sorted(again.names()) == [b"alice", b"bob"]


def test_a_second_account_of_a_name_is_not_made(tmp_path: Path) -> None:
    with made(tmp_path) as one, made(tmp_path) as other:
        assert one.add(b"alice", b"Alice", ALICE)
        assert not other.add(b"alice", b"ALICE", Account("another hash", None))
        assert other.find(b"alice") == ALICE


def test_a_changed_password_is_the_only_thing_that_changes(tmp_path: Path) -> None:
    with made(tmp_path) as store:
        store.add(b"alice", b"Alice", Account("a hash", 7))
        store.add(b"bob", b"bob", Account("bob's", None))
        store.change_password(b"alice", "another hash")
        assert store.find(b"alice") == Account("another hash", 7)
        assert store.find(b"bob") == Account("bob's", None)


def test_a_file_that_somebody_has_just_begun_to_make_has_no_accounts(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    assert Store.open(tmp_path, create=False) is None
    with made(tmp_path) as store:
        assert store.add(b"alice", b"Alice", ALICE)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    made(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreFailed, match="newer"):
        Store.open(tmp_path, create=False)


@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_database_is_a_failure(tmp_path: Path, create: bool) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database " * 1000)
    with pytest.raises(StoreFailed, match="not a database"):
        Store.open(tmp_path, create=create)


def test_a_state_directory_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(StoreFailed, match="exists"):
        Store.open(tmp_path / "state", create=True)


def test_a_file_that_is_damaged_while_it_is_open_is_a_failure(tmp_path: Path) -> None:
    with made(tmp_path) as store:
        store.add(b"alice", b"Alice", ALICE)
        (tmp_path / FILE).write_bytes(b"x" * 8192)
        with pytest.raises(StoreFailed):
            store.find(b"alice")
        with pytest.raises(StoreFailed):
            list(store.names())


def test_a_lock_that_nobody_releases_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "BUSY_SECONDS", 0.05)
    with made(tmp_path) as store, closing(sqlite3.connect(tmp_path / FILE)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreFailed, match="locked"):
            store.find(b"alice")


WRITER = """
import sys
from pathlib import Path
from prefork_chat.accounts.store import Account, Store
store = Store.open(Path(sys.argv[1]), create=True)
for n in range(1_000_000):
    store.add(b"%d" % n, b"%d" % n, Account("x" * 500, None))
    print(n, flush=True)
"""


def test_what_was_committed_survives_the_writer_s_kill(tmp_path: Path) -> None:
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            lines = [int(writer.stdout.readline()) for _ in range(10)]
            writer.send_signal(signal.SIGKILL)
            lines += [int(line) for line in writer.stdout.read().splitlines() if line]
            writer.wait(PATIENCE_SECONDS)
        with made(tmp_path) as store:
            for n in lines:
                assert store.find(b"%d" % n) is not None
