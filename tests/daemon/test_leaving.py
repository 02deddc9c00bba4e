"""A worker fewer, and one more again: whoever was there moves to others, and does not notice."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.daemon.talkers import Talk, Talker
from tests.harness.processes import fd_count
from tests.harness.sockets import unread_bytes
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_chat.addresses import Address
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

LEAVER = 2
STAYERS = (0, 1)

LONGEST_LEAVE_SECONDS = 0.02
"""About as long as it takes to move the few clients of these tests."""

TINY_BYTES = 2048
MESSAGE = "x" * 900


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    return start_sturdy(start_daemon)


def start_sturdy(start_daemon: StartDaemon, **options: object) -> Daemon:
    """Three workers, of which one may leave, and who are back at once when they are killed."""
    daemon = start_daemon(
        workers=3,
        max_workers=3,
        respawn_quick_death_seconds=0.001,
        respawn_backoff_min_seconds=0.001,
        **options,
    )
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    return daemon


def count_left(daemon: Daemon) -> int:
    return len(daemon.log.events(log.WORKER_EXITED, p_id=LEAVER, meaning="left"))


def leave(daemon: Daemon) -> None:
    """Have one worker fewer, and wait until it has left."""
    left = count_left(daemon)
    daemon.signal(signal.SIGTTOU)
    daemon.log.wait_for(log.WORKER_EXITED, count=left + 1, p_id=LEAVER, meaning="left")


def come_back(daemon: Daemon) -> None:
    """Have one worker more, and wait until it is ready."""
    generation = daemon.generation(LEAVER)
    daemon.signal(signal.SIGTTIN)
    daemon.log.wait_for(log.WORKER_READY, p_id=LEAVER, generation=generation + 1)


def talker(daemon: Daemon, name: str, worker: int) -> Talker:
    return Talker(name, daemon.join(name, worker))


def stayers(daemon: Daemon) -> list[Talker]:
    return [talker(daemon, f"stayer{p_id}", p_id) for p_id in STAYERS]


def movers(daemon: Daemon, round_: int) -> list[Talker]:
    return [talker(daemon, f"mover{round_}-{n}", LEAVER) for n in range(3)]


@pytest.mark.parametrize("durability", ["exact", "fast"])
def test_clients_talk_on_at_full_speed_while_their_worker_leaves(
    start_daemon: StartDaemon, durability: str
) -> None:
    daemon = start_sturdy(start_daemon, durability=durability)
    people = stayers(daemon)
    for round_ in range(4):
        guests = movers(daemon, round_)
        with Talk(people + guests):
            leave(daemon)
            assert {daemon.worker_of(guest.client) for guest in guests} <= set(STAYERS)
            come_back(daemon)
        for guest in guests:
            guest.client.leave()
        people = stayers_anew(people)
    assert not daemon.log.events(log.WORKER_THROTTLED)
    assert not daemon.log.events(log.SESSION_RETURNED)


def stayers_anew(people: list[Talker]) -> list[Talker]:
    """The same people, with nothing said or heard yet."""
    return [Talker(person.name, person.client) for person in people]


@pytest.mark.parametrize("durability", ["exact", "fast"])
def test_who_moves_keeps_his_name_extras_half_line_and_place_in_line(
    start_daemon: StartDaemon, durability: str
) -> None:
    daemon = start_sturdy(start_daemon, durability=durability)
    alice, bob = daemon.join("alice", 0), daemon.join("Bob", LEAVER)
    nameless, half = daemon.connect(LEAVER), daemon.connect(LEAVER)
    bob.ask("HELO quiet", "OK HELO quiet")
    if durability == "exact":
        half.send_bytes(b"JOIN half")
        bob.send_bytes(b"@7 CHAT nobody hal")
    leave(daemon)
    if durability == "exact":
        half.send_bytes(b"-way\n")
        half.expect("OK JOIN half-way")
        bob.send_bytes(b"f a line\n")
        bob.expect_error("CHAT", "NOUSER", "nobody", tag="7")
    nameless.join("late")
    alice.say("bob", "are you there?")
    bob.expect("CHAT alice are you there?")
    bob.send("CHAT alice I am quiet", "CHAT late and quiet", "PING done")
    bob.expect("OK PING done")
    alice.expect("CHAT Bob I am quiet")
    nameless.expect("CHAT Bob and quiet")
    bob.leave()
    daemon.join("bob")


def test_half_a_line_in_memory_keeps_its_worker_until_it_is_whole(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_sturdy(start_daemon, durability="fast")
    alice, bob = daemon.join("alice", 0), daemon.join("bob", LEAVER)
    carol = daemon.join("carol", LEAVER)
    bob.send_bytes(b"CHAT alice hal")
    until(lambda: unread_bytes(bob.socket) == 0, "bob to be read")
    daemon.signal(signal.SIGTTOU)
    until(lambda: daemon.worker_of(carol) in STAYERS, "carol to move")
    alice.say("bob", "and you?")
    bob.expect("CHAT alice and you?")
    assert not count_left(daemon)
    bob.send_bytes(b"f a line\n")
    alice.expect("CHAT bob half a line")
    bob.expect("OK CHAT alice")
    daemon.log.wait_for(log.WORKER_EXITED, p_id=LEAVER, meaning="left")
    alice.say("bob", "welcome")
    bob.expect("CHAT alice welcome")


def test_a_slow_reader_moves_with_all_that_he_has_not_read(daemon: Daemon) -> None:
    alice = daemon.join("alice", 0)
    bob = daemon.join("bob", LEAVER, receive_bytes=TINY_BYTES)
    busy, sent = 0, 0
    answers: list[str] = []
    while not busy:
        alice.send(*(f"@{n} CHAT bob {n} {MESSAGE}" for n in range(sent, sent + 100)), "PING")
        sent += 100
        answers += alice.read_until("OK PING")[:-1]
        busy = sum("BUSY" in answer for answer in answers)
    leave(daemon)
    come_back(daemon)
    expected = sent
    heard: list[str] = []
    while len(answers) < sent or len(heard) < expected:
        if len(heard) < expected:
            heard.append(bob.read_line())
        answers += ready_lines(alice)
        expected = sent - sum("BUSY" in answer for answer in answers)
    taken = [answer.split()[0][1:] for answer in answers if answer.endswith("OK CHAT bob")]
    assert len(answers) == len({answer.split()[0] for answer in answers}) == sent
    assert heard == [f"CHAT alice {n} {MESSAGE}" for n in sorted(map(int, taken))]
    bob.expect_nothing()
    alice.say("bob", "well again")
    bob.expect("CHAT alice well again")


def ready_lines(client: LineClient) -> list[str]:
    """All lines that the client has been sent so far."""
    client.send("PING so.far")
    return client.read_until("OK PING so.far")[:-1]


def test_clients_of_a_unix_socket_move_as_well(start_daemon: StartDaemon, tmp_path: Path) -> None:
    path = f"{tmp_path}/socket"
    daemon = start_sturdy(start_daemon, listen=["127.0.0.1:0", f"unix:{path}"])
    address = next(address for address in daemon.addresses if address.family == "unix")
    locals_ = [talker_at(daemon, f"local{n}", address) for n in range(9)]
    for _ in range(3):
        with Talk(locals_):
            leave(daemon)
        come_back(daemon)
        locals_ = stayers_anew(locals_)


def talker_at(daemon: Daemon, name: str, address: Address) -> Talker:
    client = daemon.connect(address=address)
    client.join(name)
    return Talker(name, client)


def test_a_leaver_is_killed_at_any_point_and_nobody_notices(daemon: Daemon) -> None:
    kill_while_leaving(daemon, rounds=20, victims=(LEAVER,))


def test_a_target_is_killed_at_any_point_and_nobody_notices(daemon: Daemon) -> None:
    kill_while_leaving(daemon, rounds=8, victims=STAYERS)


def kill_while_leaving(daemon: Daemon, rounds: int, victims: tuple[int, ...]) -> None:
    """Let a worker leave again and again, and kill one of `victims` while it does."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    rng = random.Random(seed)
    people = stayers(daemon)
    for round_ in range(rounds):
        guests = movers(daemon, round_)
        with Talk(people + guests):
            left = count_left(daemon)
            told = len(daemon.log.events(log.WORKER_TOLD, p_id=LEAVER))
            daemon.signal(signal.SIGTTOU)
            daemon.log.wait_for(log.WORKER_TOLD, p_id=LEAVER, count=told + 1)
            time.sleep(rng.uniform(0, LONGEST_LEAVE_SECONDS))  # that is the point
            victim = rng.choice(victims)
            if victim != LEAVER or count_left(daemon) == left:
                daemon.kill_worker(victim)
            daemon.log.wait_for(log.WORKER_EXITED, count=left + 1, p_id=LEAVER, meaning="left")
        for guest in guests:
            guest.client.leave()
        people = stayers_anew(people)
        come_back(daemon)


def test_an_answer_finds_its_sender_whose_worker_has_left_meanwhile(daemon: Daemon) -> None:
    """Where he was when he sent the message, nobody is any more."""
    alice, bob = daemon.join("alice", LEAVER), daemon.join("bob", 1)
    for _ in range(3):
        daemon.connect(1)  # so that alice moves to the other one
    with daemon.stopped_worker(1):
        alice.send("@1 CHAT bob are you there?")
        alice.expect_nothing()
        leave(daemon)
        assert daemon.worker_of(alice) == 0
    alice.expect("@1 OK CHAT bob")
    bob.expect("CHAT alice are you there?")


def test_leaving_again_and_again_leaks_nothing(daemon: Daemon) -> None:
    alice = daemon.join("alice", 0)
    leave(daemon)
    come_back(daemon)
    descriptors = fd_count(daemon.pid)
    before = worker_descriptors(daemon)
    for round_ in range(5):
        guest = daemon.join(f"guest{round_}", LEAVER)
        leave(daemon)
        alice.say(f"guest{round_}", "hi")
        guest.expect("CHAT alice hi")
        guest.leave()
        come_back(daemon)
    until(lambda: fd_count(daemon.pid) <= descriptors, "the supervisor to let go")
    until(lambda: worker_descriptors(daemon) <= before, "the workers to let go")


def worker_descriptors(daemon: Daemon) -> int:
    return sum(fd_count(daemon.worker_pid(p_id)) for p_id in STAYERS)


def test_a_stop_in_the_middle_says_goodbye_to_all(daemon: Daemon) -> None:
    people = [daemon.join(f"p{n}") for n in range(30)]
    daemon.signal(signal.SIGTTOU)
    daemon.log.wait_for(log.WORKER_TOLD, p_id=LEAVER, order="leave")
    assert daemon.stop() == 0
    for person in people:
        person.expect("NOTE server is going down")
        person.expect_end()
