"""When nothing can be stored: the chat goes on, the log says it once, and it is over by itself."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from prefork_chat.history.schema import FILE_NAME
from tests.daemon.registered import register
from tests.daemon.test_history import come, stored
from tests.daemon.test_killed_historian import FAST_RESPAWN, historian_pid, kill_historian
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon


def state_dir(daemon: Daemon) -> Path:
    return daemon.directory.parent / "state"


def expect_to_fail(daemon: Daemon) -> None:
    daemon.log.expect(log.HISTORY_FAILED, log.HISTORY_REPLACED)


def limit_files(daemon: Daemon, size: int) -> None:
    """Let no file of the historian grow above `size`, as on a full disk; -1: as they like."""
    resource.prlimit(historian_pid(daemon), resource.RLIMIT_FSIZE, (size, -1))


def talk_while_nothing_is_stored(alice: LineClient, bob: LineClient) -> None:
    """Check what is promised: who is here gets messages, for who is away none is taken."""
    alice.ask("CHAT bob you get this", "OK CHAT bob")
    bob.expect("CHAT alice you get this")
    alice.send("@1 CHAT carol and you do not")
    alice.expect_error("CHAT", "INTERNAL", "carol", tag="1")
    bob.ask("@2 CHAT alice thanks", "@2 OK CHAT alice")
    alice.expect("CHAT bob thanks")


def talk_until_it_is_stored(daemon: Daemon, alice: LineClient) -> None:
    daemon.log.wait_for(log.HISTORY_RECOVERED)
    alice.ask("CHAT carol at last", "OK CHAT carol stored")
    with come(daemon, "carol") as carol:
        carol.expect("CHAT alice at last")
        carol.ask("PING", "OK PING")
    assert len(daemon.log.events(log.HISTORY_FAILED)) == 1


def test_a_full_disk(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob", "carol")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    alice.ask("CHAT bob before", "OK CHAT bob")
    bob.expect("CHAT alice before")
    expect_to_fail(daemon)
    limit_files(daemon, 4096)
    for _ in range(3):
        talk_while_nothing_is_stored(alice, bob)
    limit_files(daemon, -1)
    talk_until_it_is_stored(daemon, alice)
    assert stored(daemon, "bob") == ["alice before"]


def test_a_directory_that_is_none(start_daemon: StartDaemon) -> None:
    """Root may write everywhere, but not into a file as if it were a directory."""
    daemon = start_daemon()
    register(daemon, "alice", "bob", "carol")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    expect_to_fail(daemon)
    where = state_dir(daemon)
    for file in where.glob(f"{FILE_NAME}*"):
        file.unlink()
    (where / FILE_NAME).mkdir()
    kill_historian(daemon)
    daemon.log.wait_for(log.HISTORY_FAILED)
    talk_while_nothing_is_stored(alice, bob)
    (where / FILE_NAME).rmdir()
    talk_until_it_is_stored(daemon, alice)


def test_a_broken_file_is_put_aside(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob", "carol")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    alice.ask("CHAT bob lost", "OK CHAT bob")
    bob.expect("CHAT alice lost")
    expect_to_fail(daemon)
    where = state_dir(daemon)
    daemon.log.expect(log.ATTENDANT_EXITED)
    os.kill(historian_pid(daemon), signal.SIGSTOP)
    for file in where.glob(f"{FILE_NAME}-*"):
        file.unlink()
    (where / FILE_NAME).write_bytes(b"no database " * 1000)
    kill_historian(daemon)
    daemon.log.wait_for(log.HISTORY_REPLACED)
    talk_until_it_is_stored(daemon, alice)
    assert [path.read_bytes()[:11] for path in where.glob("*.broken-*")] == [b"no database"]


def test_a_file_that_has_gone_is_made_anew(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    expect_to_fail(daemon)
    for file in state_dir(daemon).glob(f"{FILE_NAME}*"):
        file.unlink()
    daemon.log.wait_for(log.HISTORY_RECOVERED)
    alice.ask("CHAT bob after", "OK CHAT bob")
    bob.expect("CHAT alice after")
    assert stored(daemon, "bob") == ["alice after"]


@pytest.mark.parametrize("is_away", [False, True])
def test_kills_while_nothing_can_be_stored(start_daemon: StartDaemon, is_away: bool) -> None:
    """Every message has one answer, and who is here has each once."""
    daemon = start_daemon(workers=2, **FAST_RESPAWN)
    register(daemon, "alice", "bob")
    alice = come(daemon, "alice")
    bob = None if is_away else come(daemon, "bob")
    expect_to_fail(daemon)
    where = state_dir(daemon)
    for file in where.glob(f"{FILE_NAME}*"):
        file.unlink()
    (where / FILE_NAME).mkdir()
    kill_historian(daemon)
    daemon.log.wait_for(log.HISTORY_FAILED)
    for start in range(0, 500, 50):
        alice.send(*(f"@{n} CHAT bob message {n}" for n in range(start, start + 50)))
        kill_historian(daemon)
    for number in range(500):
        if is_away:
            alice.expect_error("CHAT", "INTERNAL", "bob", tag=str(number))
        else:
            alice.expect(f"@{number} OK CHAT bob")
    if bob is not None:
        for number in range(500):
            bob.expect(f"CHAT alice message {number}")
        bob.ask("PING", "OK PING")
    alice.ask("PING", "OK PING")
    until(lambda: historian_pid(daemon), "a historian")
