"""A bug in the historian costs what it is about, and nothing else."""

from __future__ import annotations

import signal
import stat
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from prefork_chat.historian.claim import LOCK_NAME
from tests.daemon.registered import register
from tests.daemon.test_failing_history import state_dir
from tests.daemon.test_history import come, stored
from tests.daemon.test_killed_historian import FAST_RESPAWN
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon

PROGRAM = "tests.daemon.dying_historian"


def set_aside(daemon: Daemon) -> list[Path]:
    return sorted(state_dir(daemon).glob("history.db.set-aside-*"))


def test_a_batch_that_ends_the_historian_again_and_again_is_set_aside(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=2, program=PROGRAM, **FAST_RESPAWN)
    daemon.log.expect(log.ATTENDANT_EXITED, log.ATTENDANT_THROTTLED, log.HISTORY_SHELVED)
    register(daemon, "alice", "bob", "carol", "dave")
    alice, bob, carol = come(daemon, "alice"), come(daemon, "bob"), come(daemon, "carol")
    alice.ask("CHAT bob before", "OK CHAT bob")
    bob.expect("CHAT alice before")
    alice.send("@1 CHAT dave poison")
    carol.send("@2 CHAT bob hello meanwhile")  # from a client that has nothing to do with it
    alice.expect_error("CHAT", "INTERNAL", "dave", tag="1")
    carol.expect("@2 OK CHAT bob")
    bob.expect("CHAT carol hello meanwhile")
    alice.ask("CHAT bob after", "OK CHAT bob")
    assert stored(daemon, "bob") == ["alice before", "carol hello meanwhile", "alice after"]
    (file,) = set_aside(daemon)
    assert b"poison" in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    deaths = len(daemon.log.events(log.ATTENDANT_EXITED, name="historian"))
    assert 3 <= deaths <= 5
    assert len(daemon.log.events(log.HISTORY_SHELVED)) == 1


def test_who_has_got_a_message_that_cannot_be_stored_has_got_it(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(program=PROGRAM, **FAST_RESPAWN)
    daemon.log.expect(log.ATTENDANT_EXITED, log.ATTENDANT_THROTTLED, log.HISTORY_SHELVED)
    register(daemon, "alice", "bob")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    alice.send("CHAT bob poison", "CHAT bob and more")
    bob.expect("CHAT alice poison", "CHAT alice and more")
    alice.expect("OK CHAT bob", "OK CHAT bob")
    alice.ask("CHAT bob after", "OK CHAT bob")
    assert stored(daemon, "bob")[-1] == "alice after"


def test_what_cannot_be_sorted_is_set_aside_and_the_rest_is_sorted(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(program=PROGRAM)
    daemon.log.expect(log.HISTORY_SHELVED)
    register(daemon, "alice", "bob")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    for text in ("before", "unsortable", "after"):
        alice.ask(f"CHAT bob {text}", "OK CHAT bob")
        bob.expect(f"CHAT alice {text}")
    daemon.log.wait_for(log.HISTORY_SHELVED)
    alice.ask("CHAT bob at last", "OK CHAT bob")
    assert stored(daemon, "bob") == ["alice before", "alice after", "alice at last"]
    (file,) = set_aside(daemon)
    assert b"unsortable" in file.read_bytes()


def test_of_two_daemons_with_one_state_directory_one_writes_the_history(
    start_daemon: StartDaemon,
) -> None:
    first = start_daemon()
    register(first, "alice", "bob")
    second = start_daemon(state_dir=state_dir(first))
    second.log.expect(log.HISTORY_FAILED)
    failed = second.log.wait_for(log.HISTORY_FAILED)
    assert "give each a state_dir of its own" in failed["reason"]
    alice, bob = come(first, "alice"), come(first, "bob")
    alice.ask("CHAT bob one", "OK CHAT bob")
    bob.expect("CHAT alice one")
    others = come(second, "alice"), come(second, "bob")
    others[0].ask("CHAT bob not kept", "OK CHAT bob")
    others[1].expect("CHAT alice not kept")
    first.stop()
    second.log.wait_for(log.HISTORY_RECOVERED)
    others[0].ask("CHAT bob two", "OK CHAT bob")
    others[1].expect("CHAT alice two")
    assert stored(first, "bob") == ["alice one", "alice two"]


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGUSR2])
def test_a_reload_and_an_upgrade_hand_the_lock_on(start_daemon: StartDaemon, how: int) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    daemon.signal(how)
    daemon.log.wait_for(log.ATTENDANT_READY, name="historian", generation=2)
    alice.ask("CHAT bob one", "OK CHAT bob")
    bob.expect("CHAT alice one")
    assert stored(daemon, "bob") == ["alice one"]
    assert not daemon.log.events(log.HISTORY_FAILED)


def test_a_lock_that_somebody_has_tidied_up_is_made_anew(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(watchdog_seconds=1.0)  # it looks four times a second
    register(daemon, "alice")
    path = state_dir(daemon) / LOCK_NAME
    path.unlink()
    until(path.exists, "the lock to be there again")
