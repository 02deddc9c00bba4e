"""Accounts of a real daemon: who gets which name, from where, and what fails without them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.daemon.dying_clerk import DEATHS, PLACES
from tests.daemon.registered import PASSWORD, accounts_file, accounts_locked, register
from tests.harness.client import LineClient
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.daemon.another_machine import AnotherMachine
    from tests.harness.daemon import Daemon, StartDaemon

STURDY = {"respawn_quick_death_seconds": 0.001, "respawn_backoff_min_seconds": 0.001}
LOGIN = pwd.getpwuid(os.getuid()).pw_name
ANOTHER_UID = 2  # on Linux systems an account that nobody uses, such as `bin`


LENIENT = "tests.daemon.lenient"


@pytest.fixture
def house(start_daemon: StartDaemon, tmp_path: Path) -> Daemon:
    """A daemon of two workers that punishes nobody; its second address is a Unix socket."""
    return build(start_daemon, tmp_path, program=LENIENT)


@pytest.fixture
def strict_house(start_daemon: StartDaemon, tmp_path: Path) -> Daemon:
    """The same, and it makes people wait who guess."""
    return build(start_daemon, tmp_path)


def build(start_daemon: StartDaemon, tmp_path: Path, **options: object) -> Daemon:
    listen = ["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"]
    return start_daemon(listen=listen, **STURDY, **options)


def expect_refusal(client: LineClient, line: str, code: str) -> str:
    client.send(line)
    answer = client.read_line()
    assert answer.startswith(f"ERR {line.split(maxsplit=1)[0]} {code} "), answer
    return answer


# Names and passwords


def test_a_name_with_a_password_is_its_owner_s_at_every_worker(house: Daemon) -> None:
    alice = house.join("Alice", 0)
    alice.ask(f"@p PASS {PASSWORD}", "@p OK PASS")
    alice.leave()
    for worker in (0, 1):
        client = house.connect(worker)
        expect_refusal(client, "JOIN alice", "AUTH")
        expect_refusal(client, "JOIN ALICE wrong horse", "AUTH")
        client.ask(f"@j JOIN alice {PASSWORD}", "@j OK JOIN alice")
        client.leave()


def test_a_password_can_be_changed_by_its_owner(house: Daemon) -> None:
    register(house, "alice")
    with house.connect() as alice:
        alice.ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")
        alice.ask("PASS another password", "OK PASS")
        alice.leave()
    client = house.connect()
    expect_refusal(client, f"JOIN alice {PASSWORD}", "AUTH")
    client.ask("JOIN alice another password", "OK JOIN alice")


def test_a_name_that_is_in_use_is_not_given_twice_even_with_its_password(house: Daemon) -> None:
    register(house, "alice")
    house.connect(0).ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")
    other = house.connect(1)
    expect_refusal(other, f"JOIN alice {PASSWORD}", "INUSE")
    other.join("bob")


def test_weak_passwords_are_refused(house: Daemon) -> None:
    alice = house.join("alice-in-chains")
    for password in ("short", "alice-in-chains", "ALICE-IN-CHAINS", "äöüäöüä"):
        expect_refusal(alice, f"PASS {password}", "WEAK")
    alice.ask("PASS äöüäöüäö", "OK PASS")


def test_pass_is_for_those_who_have_a_name(house: Daemon) -> None:
    client = house.connect()
    expect_refusal(client, f"PASS {PASSWORD}", "NOJOIN")
    expect_refusal(client, "PASS", "NOJOIN")
    client.join("alice")
    expect_refusal(client, "PASS", "BADARGS")


def test_guests_are_what_they_were(house: Daemon) -> None:
    register(house, "alice")
    guests = [house.join(f"guest{n}", n % 2) for n in range(4)]
    guests[0].say("guest3", "hi")
    guests[3].expect("CHAT guest0 hi")
    assert not accounts_file(house).with_name("accounts.db-journal").exists()


def test_the_same_is_said_whether_there_is_such_an_account_or_not(house: Daemon) -> None:
    register(house, "alice")
    said = {
        expect_refusal(house.connect(), f"JOIN {name} wrong horse", "AUTH")
        for name in ("alice", "nobody")
    }
    assert len(said) == 1


def test_without_accounts_names_are_everybody_s(start_daemon: StartDaemon, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    register(start_daemon(state_dir=state_dir), "alice")
    without = start_daemon(state_dir=state_dir, accounts_enabled=False, history_enabled=False)
    alice = without.join("alice")
    expect_refusal(alice, f"PASS {PASSWORD}", "DENIED")
    expect_refusal(without.connect(), f"JOIN alice {PASSWORD}", "DENIED")


# Whoever comes later knows them


def test_accounts_outlive_the_daemon(start_daemon: StartDaemon, tmp_path: Path) -> None:
    first = start_daemon(state_dir=tmp_path / "state")
    register(first, "alice")
    first.finish()
    second = start_daemon(state_dir=tmp_path / "state")
    client = second.connect()
    expect_refusal(client, "JOIN alice", "AUTH")
    client.ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")


def test_accounts_outlive_an_upgrade_and_every_worker(house: Daemon) -> None:
    register(house, "alice")
    house.signal(signal.SIGUSR2)
    house.log.wait_for(log.SUPERVISOR_RESUMED)
    house.log.wait_for(log.REPLACEMENT_FINISHED)
    for p_id in (0, 1):
        house.replace_worker(p_id)
    client = house.connect()
    expect_refusal(client, "JOIN alice", "AUTH")
    client.ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")


def test_an_owner_stays_one_when_his_worker_dies_or_moves_him(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=2, **STURDY)
    register(daemon, "alice")
    alice = daemon.connect(1)
    alice.ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")
    daemon.replace_worker(1)
    alice.ask(f"PASS {PASSWORD} 2", "OK PASS")  # a stranger would be told that it is not his
    daemon.signal(signal.SIGTTOU)
    daemon.log.wait_for(log.WORKER_EXITED, p_id=1, meaning="left")
    alice.ask(f"PASS {PASSWORD} 3", "OK PASS")


def test_an_operator_can_take_an_account_away(house: Daemon) -> None:
    register(house, "alice")
    with closing(sqlite3.connect(accounts_file(house))) as file, file:
        file.execute("DELETE FROM accounts WHERE key = 'alice'")
    register(house, "Alice")
    expect_refusal(house.connect(), "JOIN alice", "AUTH")


# Two at once


def test_of_two_daemons_with_the_same_accounts_one_gives_a_name_away(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    options = {"state_dir": tmp_path / "state", "history_enabled": False}  # that has one writer
    daemons = [start_daemon(program=LENIENT, **options) for _ in range(2)]
    for n in range(5):
        name = f"alice{n}"
        clients = [daemon.join(name) for daemon in daemons]
        for number, client in enumerate(clients):
            client.send(f"PASS password of {number}")
        answers = [client.read_line() for client in clients]
        winner = answers.index("OK PASS")
        assert answers[1 - winner].startswith(f"ERR PASS AUTH {name} is somebody else's")
        for client in clients:
            client.leave()
        client = daemons[1 - winner].connect()
        client.ask(f"JOIN {name} password of {winner}", f"OK JOIN {name}")


# From where


def test_a_password_is_not_taken_where_others_could_read_it(
    start_daemon: StartDaemon, another_machine: AnotherMachine
) -> None:
    listen = ["127.0.0.1:0", f"[{another_machine.our_address}]:0", "[::1]:0"]
    daemon = start_daemon(listen=listen)
    far = daemon.connect(address=daemon.addresses[1])
    expect_refusal(far, f"JOIN alice {PASSWORD}", "PLAIN")
    far.join("alice")
    expect_refusal(far, f"PASS {PASSWORD}", "PLAIN")
    far.leave()
    near = daemon.connect(address=daemon.addresses[2])
    near.join("alice")
    near.ask(f"PASS {PASSWORD}", "OK PASS")
    near.leave()
    expect_refusal(daemon.connect(address=daemon.addresses[1]), "JOIN alice", "AUTH")
    anywhere = start_daemon(listen=listen, accounts_plain_text="anywhere")
    far = anywhere.connect(address=anywhere.addresses[1])
    far.join("bob")
    far.ask(f"PASS {PASSWORD}", "OK PASS")


def test_an_adopted_client_is_known_to_be_near(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(listen=["[::1]:0", "127.0.0.1:0"], workers=1, **STURDY)
    client = daemon.join("alice")
    daemon.replace_worker(0)
    client.ask(f"PASS {PASSWORD}", "OK PASS")


def test_a_local_user_needs_no_password_for_his_own_name(house: Daemon) -> None:
    remote, local = house.addresses
    expect_refusal(house.join(LOGIN, 0), f"PASS {PASSWORD}", "DENIED")
    house.close_clients()
    me = house.connect(address=local)
    me.join(LOGIN.upper())
    me.leave()
    expect_refusal(house.connect(address=remote), f"JOIN {LOGIN}", "AUTH")
    me = house.connect(address=local)
    me.join(LOGIN)
    me.ask(f"PASS {PASSWORD}", "OK PASS")
    me.leave()
    client = house.connect(address=remote)
    client.ask(f"JOIN {LOGIN} {PASSWORD}", f"OK JOIN {LOGIN}")
    other = house.connect(address=local)
    other.join("somebody-else")  # under another name he is a guest like everybody


@contextmanager
def being(uid: int) -> Iterator[None]:
    """Be another user to the kernel while the block runs."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_another_local_user_is_not_the_owner(start_daemon: StartDaemon) -> None:
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    daemon = start_daemon(listen=["127.0.0.1:0", f"unix:{folder}/chat.sock"])
    local = daemon.addresses[1]
    another = pwd.getpwuid(ANOTHER_UID).pw_name
    daemon.connect(address=local).join(LOGIN)
    daemon.close_clients()
    with being(ANOTHER_UID):
        other = daemon.connect(address=local)
    expect_refusal(other, f"JOIN {LOGIN}", "AUTH")
    other.join(another)
    other.leave()
    expect_refusal(daemon.connect(address=local), f"JOIN {another}", "AUTH")
    daemon.finish()
    shutil.rmtree(folder)


# Guessing


def test_who_guesses_is_slowed_at_every_worker_and_others_are_not(strict_house: Daemon) -> None:
    register(strict_house, "alice")
    started = time.monotonic()
    for n in range(4):
        expect_refusal(strict_house.connect(n % 2), f"JOIN alice guess {n}", "AUTH")
    assert time.monotonic() - started >= 0.25 + 0.5 + 1
    guest = strict_house.join("guest")  # who needs no password does not wait
    local = strict_house.connect(address=strict_house.addresses[1])
    started = time.monotonic()
    local.ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")  # nor does who comes from elsewhere
    assert time.monotonic() - started < 2
    local.say("guest", "hi")
    guest.expect("CHAT alice hi")


@pytest.mark.slow
def test_many_guesses_at_once_are_answered_slowly_or_not_at_all(strict_house: Daemon) -> None:
    register(strict_house, "alice")
    clients = [strict_house.connect(n % 2) for n in range(24)]
    for n, client in enumerate(clients):
        client.send(f"JOIN alice guess {n}", "PING 1")
    codes = []
    for client in clients:
        codes.append(client.read_line().split()[2])
        client.expect("OK PING 1")
    assert set(codes) == {"AUTH", "RATE"}
    assert codes.count("AUTH") <= 12


def test_new_passwords_for_one_account_are_slowed_and_others_are_not(strict_house: Daemon) -> None:
    alice, bob = strict_house.join("alice", 0), strict_house.join("bob", 1)
    alice.ask(f"PASS {PASSWORD}", "OK PASS")
    started = time.monotonic()
    for n in range(4):
        alice.ask(f"PASS {PASSWORD} {n}", "OK PASS")
    assert time.monotonic() - started >= 0.25 + 0.5 + 1
    started = time.monotonic()
    bob.ask(f"PASS {PASSWORD}", "OK PASS")
    assert time.monotonic() - started < 1
    alice.leave()
    again = strict_house.connect(1)
    again.ask(f"JOIN alice {PASSWORD} 3", "OK JOIN alice")  # the name is not locked


# What is kept secret


def test_no_password_is_in_a_log_a_journal_a_spill_or_a_datagram(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    secret = "s3cr3t-horse"
    for durability in ("exact", "fast"):
        daemon = start_daemon(program=LENIENT, durability=durability, log_level="debug", **STURDY)
        client = daemon.connect()
        client.send("JOIN alice", f"PASS {secret}", f"JOIN alice {secret}", f"PSS {secret}")
        client.expect("OK JOIN alice", "OK PASS")
        client.expect_error("JOIN", "JOINED")
        client.expect_error("*", "BADVERB", "PSS")
        with accounts_locked(daemon):
            client.send("PING 1", f"PASS {secret}{secret}")
            client.expect("OK PING 1")
            other = daemon.connect()
            other.send(f"JOIN bob {secret}")
            other.send_bytes(f"JOIN bob {secret}".encode())
            assert_is_nowhere(daemon, secret)
            daemon.signal(signal.SIGHUP)
            daemon.log.wait_for(log.WORKER_TOLD)
        client.expect("OK PASS")
        other.expect_error("JOIN", "AUTH")
        daemon.log.wait_for(log.REPLACEMENT_FINISHED)
        assert_is_nowhere(daemon, secret)
        other.send("", "PING 2")
        other.expect_error("JOIN", "AUTH")
        other.expect("OK PING 2")


def assert_is_nowhere(daemon: Daemon, secret: str) -> None:
    """Look into everything that the daemon writes, and that outlives a process of it."""
    files = [path for path in daemon.directory.parent.rglob("*") if path.is_file()]
    fds = Path(f"/proc/{daemon.pid}/fd")
    memory = [fd for fd in fds.iterdir() if "memfd" in os.readlink(fd)]
    assert len(memory) >= 4
    assert any(path.name == "daemon.log" for path in files)
    for path in (*files, *memory):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # SQLite's, of a historian that has just handed over
        assert secret.encode() not in content, path


# What fails


def test_a_damaged_file_costs_accounts_only_and_only_as_long_as_it_is_damaged(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(workers=1, listen=["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"])
    register(daemon, "alice", "bob")
    path = accounts_file(daemon)
    content = path.read_bytes()
    path.write_bytes(b"no database " * 1000)
    daemon.log.expect(log.ACCOUNTS_FAILED)
    client = daemon.connect()
    for line in ("JOIN alice", f"JOIN alice {PASSWORD}", f"JOIN nobody {PASSWORD}"):
        answer = expect_refusal(client, line, "INTERNAL")
        assert answer.endswith("try again later, tell the operator")
    guest, other = daemon.join("guest"), daemon.connect(address=daemon.addresses[1])
    other.join("other")
    guest.say("other", "hi")
    other.expect("CHAT guest hi")
    for _ in range(2):
        expect_refusal(guest, f"PASS {PASSWORD}", "INTERNAL")
    assert len(daemon.log.events(log.ACCOUNTS_FAILED)) == 1
    path.write_bytes(content)
    client.ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")
    guest.ask(f"PASS {PASSWORD}", "OK PASS")
    assert len(daemon.log.events(log.ACCOUNTS_RECOVERED)) == 1


def test_a_daemon_starts_with_a_damaged_file_and_knows_the_names_once_it_is_repaired(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    first = start_daemon(state_dir=tmp_path / "state")
    register(first, "alice")
    path = tmp_path / "state" / "accounts.db"
    content = path.read_bytes()
    first.finish()
    path.write_bytes(b"no database " * 1000)
    daemon = start_daemon(state_dir=tmp_path / "state", workers=1)
    daemon.log.expect(log.ACCOUNTS_UNKNOWN, log.ACCOUNTS_FAILED)
    assert len(daemon.log.events(log.ACCOUNTS_UNKNOWN)) == 1
    guest = daemon.join("guest")
    expect_refusal(guest, f"PASS {PASSWORD}", "INTERNAL")
    path.write_bytes(content)
    guest.ask(f"PASS {PASSWORD}", "OK PASS")
    expect_refusal(daemon.connect(), "JOIN alice", "AUTH")


def test_a_state_directory_that_cannot_be_made_costs_accounts_only(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "state"
    in_the_way.write_text("")
    daemon = start_daemon(
        state_dir=in_the_way,
        listen=["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"],
        workers=1,
        history_enabled=False,
    )
    daemon.log.expect(log.ACCOUNTS_FAILED, log.BANS_UNREADABLE)
    alice = daemon.join("alice")
    for _ in range(2):
        expect_refusal(alice, f"PASS {PASSWORD}", "INTERNAL")
    daemon.connect(address=daemon.addresses[1]).join(LOGIN)  # as a guest
    assert len(daemon.log.events(log.ACCOUNTS_FAILED)) == 1
    in_the_way.unlink()
    alice.ask(f"PASS {PASSWORD}", "OK PASS")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a file system that is full")
def test_a_full_disk_costs_new_accounts_only(start_daemon: StartDaemon, tmp_path: Path) -> None:
    state_dir = tmp_path / "disk"
    state_dir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state_dir)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs a file system that is full, and may not mount one")
    try:
        daemon = start_daemon(state_dir=state_dir, workers=1, history_enabled=False)
        register(daemon, "alice")
        filler = state_dir / "filler"
        with suppress(OSError):
            filler.write_bytes(b"x" * 100_000)
        daemon.log.expect(log.ACCOUNTS_FAILED)
        guest = daemon.join("guest")
        for _ in range(2):
            expect_refusal(guest, f"PASS {PASSWORD}", "INTERNAL")
        owner = daemon.connect()
        owner.ask(f"JOIN alice {PASSWORD}", "OK JOIN alice")
        owner.say("guest", "hi")
        guest.expect("CHAT alice hi")
        filler.unlink()
        guest.ask(f"PASS {PASSWORD}", "OK PASS")
        daemon.finish()
    finally:
        subprocess.run(["umount", "--lazy", str(state_dir)], check=True)


def test_a_daemon_that_has_no_place_for_its_state_says_so(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    script = (
        "import pwd, sys; from prefork_chat.cli.main import main\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "sys.exit(main(['serve', '--runtime-dir', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode != 0
    assert "server.state_dir" in done.stderr
    assert "Traceback" not in done.stderr


# Killed


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("place", PLACES)
def test_a_kill_between_a_question_and_its_answer_is_not_noticed(
    start_daemon: StartDaemon, tmp_path: Path, place: str, family: str
) -> None:
    deaths = tmp_path / "deaths"
    deaths.write_text("")
    daemon = start_daemon(
        program="tests.daemon.dying_clerk",
        environ=os.environ | {DEATHS: str(deaths)},
        listen=["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"],
        workers=1,
        **STURDY,
    )
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    address = daemon.addresses[("tcp", "unix").index(family)]
    client = daemon.connect(address=address)
    client.join("alice")
    for line, answer in (
        (f"PASS {PASSWORD}", "OK PASS"),
        ("PASS another password", "OK PASS"),
        ("LEAV", "OK LEAV"),
        ("JOIN alice", "ERR JOIN AUTH alice is somebody's account: .*"),
        ("JOIN alice wrong horse", "ERR JOIN AUTH the name .*"),
        ("JOIN alice another password", "OK JOIN alice"),
    ):
        if line == "JOIN alice":
            client = daemon.connect(address=address)
        deaths.write_text(f"{place} {place}")
        client.send(line)
        client.expect_match(answer)
        if line != "LEAV":
            client.expect_nothing()
            assert deaths.read_text() == ""
    client.ask(f"CHAT alice still {place}", f"CHAT alice still {place}", "OK CHAT alice")


def test_workers_that_die_all_the_time_answer_everything_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(program=LENIENT, workers=2, respawn_max_crashes=1000, **STURDY)
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    questions, most_kills = 5, 10
    troubles: list[str] = []

    def live(name: str, client: LineClient) -> None:
        try:
            client.send(f"JOIN {name}", *(f"PASS {PASSWORD} {n}" for n in range(questions)))
            client.expect(f"OK JOIN {name}", *["OK PASS"] * questions)
            client.send("LEAV")
            client.expect("OK LEAV")
            with LineClient.connect(daemon.addresses[0]) as again:
                again.expect_greeting()
                again.send("PING 1", f"JOIN {name} {PASSWORD} {questions - 1}", "PING 2")
                again.expect("OK PING 1", f"OK JOIN {name}", "OK PING 2")
                again.expect_nothing()
        except (AssertionError, OSError) as error:
            troubles.append(f"{name}: {error}")

    people = [
        threading.Thread(target=live, args=(f"person{n}", daemon.connect(n % 2))) for n in range(4)
    ]
    for thread in people:
        thread.start()
    kills = 0
    while kills < most_kills and any(thread.is_alive() for thread in people):
        daemon.replace_worker(kills % 2)
        kills += 1
        people[0].join(0.3)
    for thread in people:
        thread.join(PATIENCE_SECONDS)
    assert not troubles
    assert kills > 1
    until(lambda: daemon.stat()["names"] == 0, "everybody to have left")
