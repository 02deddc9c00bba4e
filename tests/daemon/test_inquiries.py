"""Lines whose answer takes a while: their client waits in order, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from prefork_chat.worker.clerk import MOST_QUESTIONS
from tests.daemon.dying_clerk import DEATHS, FAILING, STUCK
from tests.daemon.registered import PASSWORD, accounts_locked, begin_to_join, register
from tests.harness.daemon import daemons
from tests.harness.sockets import unread_bytes
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

RESUMED = r"NOTE RESUMED: .*"


WAYS: dict[str, dict[str, object]] = {
    "exact": {},
    "fast": {"durability": "fast"},
    "old kernel": {"program": "tests.daemon.old_kernel"},
}
ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module", params=WAYS)
def alices_daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("alices")
    with daemons(folder) as start:
        yield start_with_alice(start, folder, **WAYS[request.param])


@pytest.fixture
def daemon(alices_daemon: Daemon) -> Iterator[Daemon]:
    """Where alice has an account; the second address is a Unix socket. The same for many tests."""
    yield alices_daemon
    alices_daemon.come_to_rest()


@pytest.fixture
def exact_daemon(start_daemon: StartDaemon, tmp_path: Path) -> Daemon:
    return start_with_alice(start_daemon, tmp_path)


def start_with_alice(start_daemon: StartDaemon, tmp_path: Path, **options: object) -> Daemon:
    daemon = start_daemon(
        **{
            "program": "tests.daemon.lenient",
            "listen": ["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"],
            "respawn_quick_death_seconds": 0.001,
            "respawn_backoff_min_seconds": 0.001,
        }
        | options
    )
    register(daemon, "alice")
    return daemon


def connect(daemon: Daemon, family: str) -> LineClient:
    return daemon.connect(address=daemon.addresses[("tcp", "unix").index(family)])


families = pytest.mark.parametrize("family", ["tcp", "unix"])


@families
def test_what_stands_behind_a_question_waits_for_its_answer(daemon: Daemon, family: str) -> None:
    bob = daemon.join("bob")
    client = connect(daemon, family)
    with accounts_locked(daemon):
        begin_to_join(client, "alice", "PING 1", "CHAT bob hi", "@x PING 2")
        client.send_bytes(b"half a li")
        bob.expect_nothing()  # others are served meanwhile
    client.expect("OK JOIN alice", "OK PING 1")
    assert set(client.read_lines(2)) == {"@x OK PING 2", "OK CHAT bob"}
    bob.expect("CHAT alice hi")
    client.send("ne")
    client.expect_error("*", "BADVERB", "half")
    client.expect_nothing()


@families
def test_more_than_is_read_at_once_may_stand_behind_a_question(daemon: Daemon, family: str) -> None:
    client = connect(daemon, family)
    tokens = [f"{n}." + "x" * 40 for n in range(2000)]
    with accounts_locked(daemon):
        begin_to_join(client, "alice")
        client.send(*(f"PING {token}" for token in tokens[:1000]))
    client.send(*(f"PING {token}" for token in tokens[1000:]), "LEAV")
    client.expect("OK JOIN alice", *(f"OK PING {token}" for token in tokens), "OK LEAV")
    client.expect_end()


@families
def test_many_questions_in_one_go_are_answered_in_order(daemon: Daemon, family: str) -> None:
    client = connect(daemon, family)
    lines = ["JOIN alice", "PING 0", "@j JOIN alice", f"JOIN alice {PASSWORD}", "PING 1"]
    lines += [f"PASS {PASSWORD} {n}" for n in range(3)]
    lines.append(f"PASS {PASSWORD}")
    client.send(*lines)
    client.expect_error("JOIN", "AUTH", "alice")
    client.expect("OK PING 0")
    client.expect_error("JOIN", "AUTH", "alice", tag="j")
    client.expect("OK JOIN alice", "OK PING 1", *["OK PASS"] * 4)
    client.expect_nothing()


@families
def test_an_end_of_file_behind_a_question_waits_too(daemon: Daemon, family: str) -> None:
    bob = daemon.join("bob")
    client = connect(daemon, family)
    with accounts_locked(daemon):
        begin_to_join(client, "alice", "CHAT bob hi")
        client.half_close()
        bob.expect_nothing()
    client.expect("OK JOIN alice", "OK CHAT bob")
    bob.expect("CHAT alice hi")
    client.expect_end()


@families
def test_a_client_may_be_gone_before_its_answer_comes(daemon: Daemon, family: str) -> None:
    bob = daemon.join("bob")
    gone, reset = connect(daemon, family), connect(daemon, family)
    with accounts_locked(daemon):
        begin_to_join(gone, "alice", "CHAT bob hi")
        begin_to_join(reset, "alice")
        reset.reset()
        gone.close()
    bob.expect("CHAT alice hi")
    until(lambda: daemon.stat()["clients"] == 2, "both to be let go")
    connect(daemon, family).ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")


@families
def test_a_successor_asks_again(exact_daemon: Daemon, family: str) -> None:
    daemon = exact_daemon
    bob, client = daemon.join("bob"), connect(daemon, family)
    with accounts_locked(daemon):
        begin_to_join(client, "alice", "PING 1", "CHAT bob hi")
        for p_id in (0, 1):
            daemon.replace_worker(p_id)
    client.expect("OK JOIN alice", "OK PING 1", "OK CHAT bob")
    bob.expect("CHAT alice hi")
    client.ask(f"PASS {PASSWORD}", "OK PASS")
    for p_id in (0, 1):
        daemon.replace_worker(p_id)
    client.ask(f"PASS {PASSWORD} again", "OK PASS")  # it is still known whose account it is
    client.expect_nothing()
    bob.expect_nothing()


def test_in_fast_mode_a_question_dies_with_its_worker(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_with_alice(start_daemon, tmp_path, durability="fast")
    client = daemon.connect(0)
    with accounts_locked(daemon):
        begin_to_join(client, "alice", "PING 1")
        daemon.replace_worker(0)
    client.expect_match(RESUMED)
    client.ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")


@families
def test_workers_may_be_replaced_while_questions_are_open(daemon: Daemon, family: str) -> None:
    client = connect(daemon, family)
    with accounts_locked(daemon):
        begin_to_join(client, "alice", "PING 1")
        client.send_bytes(b"half a li")
        told = len(daemon.log.events(log.WORKER_TOLD))
        finished = len(daemon.log.events(log.REPLACEMENT_FINISHED))
        daemon.signal(signal.SIGHUP)
        daemon.log.wait_for(log.WORKER_TOLD, count=told + 1)
    client.expect("OK JOIN alice", "OK PING 1")
    daemon.log.wait_for(log.REPLACEMENT_FINISHED, count=finished + 1)
    client.send("ne")
    client.expect_error("*", "BADVERB", "half")
    client.ask(f"PASS {PASSWORD}", "OK PASS")


@ways
@families
def test_a_worker_leaves_when_its_open_questions_are_answered(
    start_daemon: StartDaemon, tmp_path: Path, way: str, family: str
) -> None:
    daemon = start_with_alice(start_daemon, tmp_path, **WAYS[way])
    clients = [connect(daemon, family) for _ in range(6)]
    with accounts_locked(daemon):
        for client in clients:
            begin_to_join(client, "alice", "PING 1", password="")
        daemon.signal(signal.SIGTTOU)
        daemon.log.wait_for(log.WORKER_TOLD, p_id=1)
    for client in clients:
        client.expect_error("JOIN", "AUTH", "alice")
        client.expect("OK PING 1")
    daemon.log.wait_for(log.WORKER_EXITED, p_id=1, meaning="left")
    for n, client in enumerate(clients):
        client.join(f"guest{n}")


def test_a_worker_that_hands_over_does_not_wait_for_ever(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    deaths = tmp_path / "deaths"
    deaths.write_text(STUCK)
    daemon = start_daemon(
        program="tests.daemon.dying_clerk",
        environ=os.environ | {DEATHS: str(deaths)},
        durability="fast",
        workers=1,
        threads=1,
    )
    client, late = daemon.connect(), daemon.connect()
    client.send("PING before", f"@j JOIN alice {PASSWORD}", "PING 1")
    client.expect("OK PING before")
    daemon.signal(signal.SIGHUP)
    daemon.log.wait_for(log.WORKER_TOLD)
    client.expect_error("JOIN", "UNSURE", tag="j")
    client.expect("OK PING 1")
    daemon.log.wait_for(log.REPLACEMENT_FINISHED)
    deaths.write_text("")
    late.send(f"JOIN alice {PASSWORD}")
    late.expect_error("JOIN", "AUTH")
    client.expect_nothing()


def test_our_own_fault_costs_one_answer_and_no_worker(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    deaths = tmp_path / "deaths"
    deaths.write_text(FAILING)
    environ = os.environ | {DEATHS: str(deaths)}
    daemon = start_daemon(program="tests.daemon.dying_clerk", environ=environ)
    daemon.log.expect(log.QUESTION_FAILED)
    client = daemon.connect()
    client.send(f"@j JOIN alice {PASSWORD}", "PING 1")
    client.expect_error("JOIN", "INTERNAL", tag="j")
    client.expect("OK PING 1")
    [failure] = daemon.log.events(log.QUESTION_FAILED)
    assert "a bug" in str(failure["exception"])
    assert PASSWORD not in str(failure)
    deaths.write_text("")
    client.send(f"JOIN alice {PASSWORD}")
    client.expect_error("JOIN", "AUTH")


def test_too_many_questions_are_refused(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_with_alice(start_daemon, tmp_path, workers=1)
    with accounts_locked(daemon):
        clients = [daemon.connect() for _ in range(MOST_QUESTIONS + 1)]
        for client in clients:
            client.send("PING before", "JOIN alice")
            client.expect("OK PING before")
        late = daemon.connect()
        late.send("@l JOIN alice", "PING 1")
        late.expect_error("JOIN", "BUSY", tag="l")
        late.expect("OK PING 1")
        late.join("guest")
    for client in clients:
        client.expect_error("JOIN", "AUTH", "alice")


def test_who_waits_for_an_answer_is_not_read(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_with_alice(start_daemon, tmp_path, workers=1)
    client = daemon.connect(receive_bytes=4096)
    with accounts_locked(daemon):
        begin_to_join(client, "alice")
        client.send_while_taken(b"PING x\n" * 200_000)
        until(lambda: unread_bytes(client.socket) > 0, "the daemon to leave it in the kernel")
    client.expect("OK JOIN alice", "OK PING x")
