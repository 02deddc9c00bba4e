"""What the console shows, and that nobody waits for it, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from prefork_chat.attachment import attach
from tests.harness.client import LineClient
from tests.harness.console import Console
from tests.harness.processes import continue_process, stop_process
from tests.harness.program import ROOT
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon

TIME = r"\d\d:\d\d:\d\d"
QUICK = {
    "respawn_quick_death_seconds": 0.001,
    "respawn_backoff_min_seconds": 0.01,
    "respawn_backoff_max_seconds": 0.02,
}


def mumble(client: LineClient, text: str) -> None:
    """Have alice say something to herself."""
    client.ask(f"CHAT alice {text}", f"CHAT alice {text}", "OK CHAT alice")


def run(directory: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run a console without a terminal to its end."""
    return subprocess.run(
        [sys.executable, "-m", "prefork_chat", "console", "--runtime-dir", str(directory)],
        cwd=ROOT,
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("places", [(0, 1), (0, 0)], ids=["two-workers", "same-worker"])
def test_it_shows_who_comes_and_goes_and_who_writes_to_whom(
    daemon: Daemon, places: tuple[int, int]
) -> None:
    with Console.follow(daemon.directory) as console:
        alice, bob = daemon.join("Alice", places[0]), daemon.join("bob", places[1])
        host, port = alice.socket.getsockname()
        console.wait_for(f"{TIME} Alice joined from {host}:{port}")
        console.wait_for(f"{TIME} bob joined from .*")
        alice.say("bob", "this is between us")
        alice.ask("@7 CHAT BOB this, too", "@7 OK CHAT BOB")
        console.wait_for(f"{TIME} Alice -> BOB")
        assert console.count(f"{TIME} Alice -> bob") == 1
        alice.send("CHAT carol hello")
        bob.send("LEAV")
        console.wait_for(f"{TIME} bob left")
        alice.close()
        console.wait_for(f"{TIME} Alice left")
        assert not [line for line in console.lines if "us" in line or "carol" in line]
        assert any("messages without their text" in line for line in console.lines)


def test_what_is_said_in_a_room_is_shown_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(operator_see_messages=True)
    people = [daemon.join(f"person{number}", number % 2) for number in range(4)]
    with Console.follow(daemon.directory) as console:
        for number, person in enumerate(people, start=1):
            person.ask("ENTR #tea", f"OK ENTR #tea n={number}")
        people[0].ask("CHAT #tea is the kettle on?", "OK CHAT #tea n=3")
        for person in people[1:]:
            person.expect("CHAT #tea person0 is the kettle on?")
        people[1].ask("CHAT #TEA it is", "OK CHAT #tea n=3")
        console.wait_for(f"{TIME} person1 -> #tea: it is")
        console.wait_for_count(rf"{TIME} person0 -> #tea: is the kettle on\?", 1)
        console.ask("/rooms", "#tea  4")


def test_what_is_said_is_shown_only_where_people_are_told_so(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(operator_see_messages=True)
    with Console.follow(daemon.directory) as console, ExitStack() as stack:
        people = []
        for name in ("alice", "bob"):
            client = stack.enter_context(LineClient.connect(daemon.addresses[0]))
            client.expect_match("OK HELO .* max=1024 operator=sees-messages")
            client.join(name)
            people.append(client)
        people[0].say("bob", "schönen \x1b[31mAbend")
        people[0].ask("@7 CHAT bob tagged", "@7 OK CHAT bob")
        console.wait_for(rf"{TIME} alice -> bob: schönen \?\[31mAbend")
        console.wait_for(f"{TIME} alice -> bob: tagged")


def test_a_reload_does_not_begin_to_show_what_is_said(start_daemon: StartDaemon) -> None:
    """Who is here has been greeted by a server on which nobody reads along."""
    folder = start_daemon().directory.parent
    file = folder / "chat.toml"
    file.write_text("")
    daemon = start_daemon(config=file)
    file.write_text("[operator]\nsee_messages = true\n")
    daemon.signal(signal.SIGHUP)
    daemon.log.expect("config.kept")
    daemon.log.wait_for("config.kept", keys=["operator.see_messages"])
    daemon.log.wait_for("replacement.finished", reason="reload")
    with Console.follow(daemon.directory) as console:
        alice = daemon.join("alice")
        mumble(alice, "dear diary")
        console.wait_for(f"{TIME} alice -> alice")


def test_a_message_that_does_not_arrive_is_not_shown(daemon: Daemon) -> None:
    with Console.follow(daemon.directory) as console:
        alice = daemon.join("alice")
        alice.send("CHAT nobody hello")
        alice.expect_error("CHAT", "NOUSER", "nobody")
        mumble(alice, "hello")
        console.wait_for(f"{TIME} alice -> alice")
        assert not console.count(".* nobody.*")


def test_lines_are_carried_out_without_a_terminal(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    done = run(daemon.directory, "good morning\n\n/to alice and you\n/help\nlast words")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-- told 1 person" in done.stdout
    assert "-- told alice" in done.stdout
    assert "/kick NAME [REASON]" in done.stdout
    said = ["good morning", "and you", "last words"]
    assert alice.read_lines(3) == [f"NOTE <operator> {text}" for text in said]


def test_what_is_not_done_is_told_by_the_exit_code(daemon: Daemon) -> None:
    done = run(daemon.directory, "/dance\n/kick\n/kick #dev\n/kick nobody\n")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "prefork-chat: /dance is no command: /help lists them",
        "prefork-chat: a name is missing: /kick NAME [REASON]",
        "prefork-chat: #dev is no name: /kick NAME [REASON]",
        "prefork-chat: nobody named nobody is here",
    ]


def test_quit_ends_it_before_its_input_does(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    assert run(daemon.directory, "one\n/quit\ntwo\n").returncode == 0
    alice.expect("NOTE <operator> one")
    alice.expect_nothing()


def test_many_lines_in_a_row_are_all_carried_out_in_order(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    lines = [f"line {number}" for number in range(500)]
    done = run(daemon.directory, "\n".join(lines))
    assert done.returncode == 0
    assert done.stdout.count("told 1 person") == 500
    assert alice.read_lines(500) == [f"NOTE <operator> {line}" for line in lines]


def test_where_no_daemon_runs_that_is_said(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"prefork-chat: no daemon runs in {tmp_path}: --runtime-dir or ")


def test_ctrl_c_ends_a_console_that_follows(daemon: Daemon) -> None:
    with Console.follow(daemon.directory) as console:
        console.signal(signal.SIGINT)
        assert console.wait() == 130
        assert not console.complaints


def test_a_console_whose_lines_nobody_reads_ends(daemon: Daemon) -> None:
    command = f"{sys.executable} -m prefork_chat console --runtime-dir {daemon.directory} --follow"
    with daemon.join("alice") as alice:
        shell = subprocess.Popen(
            ["bash", "-c", f"sleep 60 | {command} | head -n 1; exit ${{PIPESTATUS[1]}}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert shell.stdout is not None
            assert shell.stdout.readline().startswith("-- prefork-chat")
            while _watched(daemon):
                mumble(alice, "is anybody reading?")
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.communicate()


def _watched(daemon: Daemon) -> int:
    with attach(daemon.directory) as attached:
        return attached.registry.consoles.watched


# Several, and their end


def test_every_console_sees_everything_and_a_fifth_is_refused(daemon: Daemon) -> None:
    with ExitStack() as stack:
        consoles = [stack.enter_context(Console.follow(daemon.directory)) for _ in range(4)]
        fifth = run(daemon.directory)
        assert fifth.returncode == 1
        assert fifth.stderr == (
            "prefork-chat: 4 consoles are open, more there cannot be: close one\n"
        )
        alice = daemon.join("alice", 0)
        daemon.join("bob", 1)
        alice.say("bob", "hello")
        for console in consoles:
            console.wait_for(f"{TIME} alice joined.*")
            console.wait_for(f"{TIME} bob joined.*")
            console.wait_for(f"{TIME} alice -> bob")
        answers = {console.ask("hello all", "-- told 2 people") for console in consoles}
        assert len(answers) == 1


def test_a_console_that_is_killed_frees_its_place(daemon: Daemon) -> None:
    for _ in range(6):
        with Console.follow(daemon.directory) as console:
            console.process.kill()
    until(lambda: _watched(daemon) == 0, "the places to be free")
    with Console.follow(daemon.directory) as console:
        daemon.join("alice")
        console.wait_for(f"{TIME} alice joined.*")
        assert console.lost() == 0


def test_the_next_console_of_a_place_is_not_told_what_was_for_another(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    with Console.follow(daemon.directory) as console:
        stop_process(console.process.pid)
        for _ in range(200):
            mumble(alice, "hello")
        console.process.kill()
    until(lambda: _watched(daemon) == 0, "the place to be free")
    with Console.follow(daemon.directory) as console:
        daemon.join("bob")
        console.wait_for(f"{TIME} bob joined.*")
        assert not console.count(f"{TIME} alice.*")
        assert console.lost() == 0


# A console that does not keep up


def test_a_stopped_console_slows_nobody_and_says_how_many_lines_it_lost(
    start_daemon: StartDaemon,
) -> None:
    """Every line of a flood is shown or counted, once, and the flood is as fast as without it."""
    daemon = start_daemon(operator_see_messages=True)
    text = "x" * 200
    with Console.follow(daemon.directory) as console, ExitStack() as stack:
        pairs = [
            (
                stack.enter_context(daemon.join(f"from{number}", number % 2)),
                stack.enter_context(daemon.join(f"to{number}", (number + 1) % 2)),
            )
            for number in range(4)
        ]

        def flood(batches: int) -> float:
            begun = time.monotonic()
            for _ in range(batches):
                for number, (sender, _) in enumerate(pairs):
                    sender.send(*[f"CHAT to{number} {text}"] * 50)
                for number, (sender, receiver) in enumerate(pairs):
                    assert sender.read_lines(50) == [f"OK CHAT to{number}"] * 50
                    receiver.read_lines(50)
            return time.monotonic() - begun

        flood(5)
        stop_process(console.process.pid)
        try:
            stopped_seconds = flood(60)
        finally:
            continue_process(console.process.pid)
        sent = 65 * 50 * len(pairs)
        shown = rf"{TIME} from\d -> to\d: x+"
        until(lambda: console.count(shown) + console.lost() >= sent, "the rest to be told")
        assert console.lost() > 0
        assert console.count(shown) + console.lost() == sent
        free_seconds = flood(60)
        assert stopped_seconds < 5 * free_seconds + 1, (stopped_seconds, free_seconds)


def test_a_stopped_console_keeps_no_answer_from_another(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    alice = daemon.join("alice")
    with Console.follow(daemon.directory) as sleeper, Console(daemon.directory) as console:
        stop_process(sleeper.process.pid)
        for _ in range(3):
            alice.send(*["CHAT alice hello"] * 2000)
            console.ask("wake up", "-- told 1 person")
        alice.read_until("NOTE <operator> wake up")
        continue_process(sleeper.process.pid)


# The daemon changes


def test_it_goes_on_when_workers_are_killed_and_replaced(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2, **QUICK)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    with Console.follow(daemon.directory) as console:
        for p_id in (0, 1):
            daemon.replace_worker(p_id)
            alice.say("bob", f"after the death of worker {p_id}")
            bob.read_line()
            console.wait_for_count(f"{TIME} alice -> bob", p_id + 1)
        daemon.signal(signal.SIGHUP)
        daemon.log.wait_for("replacement.finished", reason="reload")
        alice.say("bob", "after a reload")
        console.wait_for_count(f"{TIME} alice -> bob", 3)
        assert not console.count(f"{TIME} (alice|bob) (left|joined.*)")
        console.ask("still here?", "-- told 2 people")


def test_it_comes_again_when_the_daemon_becomes_another_program(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    alice = daemon.join("alice")
    with Console.follow(daemon.directory) as console:
        for count in (1, 2):
            daemon.signal(signal.SIGUSR2)
            daemon.log.wait_for("replacement.finished", count=count, reason="upgrade")
            console.wait_for_count("-- .* again: .*", count)
            console.ask(f"upgrade {count}", "-- told 1 person")
            alice.expect(f"NOTE <operator> upgrade {count}")
            mumble(alice, "hello")
            console.wait_for_count(f"{TIME} alice -> alice", count)
        assert _watched(daemon) == 1


def test_no_note_is_lost_or_doubled_by_an_upgrade(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    alice = daemon.join("alice")
    said = []
    with Console.follow(daemon.directory) as console:
        daemon.signal(signal.SIGUSR2)
        number = 0
        while not daemon.log.events("replacement.finished", reason="upgrade"):
            number += 1
            answer = console.ask(f"note {number}", "(-- told|prefork-chat:) .*")
            if answer.startswith("-- told 1 person"):
                said.append(f"NOTE <operator> note {number}")
            else:
                assert answer == "prefork-chat: that failed: there is no daemon just now"
        assert console.count("-- .* again: .*") == 1
    assert said
    assert alice.read_lines(len(said)) == said
    alice.expect_nothing()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_comes_again_when_the_daemon_is_started_again(
    start_daemon: StartDaemon, number: signal.Signals
) -> None:
    first = start_daemon()
    with Console.follow(first.directory, "--wait", "30") as console:
        if number == signal.SIGKILL:
            first.abandon()
        else:
            first.finish()
        console.ask("anybody?", "prefork-chat: that failed: there is no daemon just now")
        second = start_daemon(runtime_dir=first.directory)
        console.wait_for(f"-- .* again: prefork-chat .*, pid {second.pid}, .*")
        second.join("alice")
        console.wait_for(f"{TIME} alice joined.*")


def test_it_ends_when_the_daemon_has_gone_for_good(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    with Console.follow(daemon.directory, "--wait", "0.3") as console:
        daemon.finish()
        assert console.wait() == 3
        assert console.complaints == ["prefork-chat: the daemon has gone: it has not come again"]


def test_a_worker_fewer_does_not_look_like_people_leaving(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    alice = daemon.join("alice", 1)
    with Console.follow(daemon.directory) as console:
        daemon.signal(signal.SIGTTOU)
        daemon.log.wait_for("worker.exited", p_id=1, meaning="left")
        console.ask("who is left?", "-- told 1 person")
        alice.expect("NOTE <operator> who is left?")
        assert not console.count(f"{TIME} alice (left|joined.*)")
        assert len(daemon.log.events("worker.spawned", p_id=1)) == 1, "nobody was forked for it"
