"""`send`, `listen` and `chat` without a terminal, as scripts run them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.harness.waiting import PATIENCE_SECONDS, until
from tests.terminal.commands import Running, at, run, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon


@contextmanager
def listening(daemon: Daemon, name: str, *flags: str) -> Iterator[Running]:
    """Run `listen`, from when it has joined."""
    names = daemon.stat()["names"]
    with running("listen", *at(daemon, name), *flags) as listener:
        until(lambda: daemon.stat()["names"] > names, f"{name} to join")
        yield listener


def test_a_message_is_sent_and_delivered(daemon: Daemon) -> None:
    bob = daemon.join("bob")
    result = run("send", *at(daemon, "cron"), "bob", "backup", "done:", "42 files")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    bob.expect("CHAT cron backup done: 42 files")


def test_every_line_of_standard_input_is_a_message(daemon: Daemon) -> None:
    bob = daemon.join("bob")
    lines = [f"line {number}" for number in range(1000)]
    text = "\n".join([*lines[:500], "", *lines[500:]])  # without a line end at the end
    assert run("send", *at(daemon, "cron"), "bob", "-", stdin=text).returncode == 0
    bob.expect(*(f"CHAT cron {line}" for line in lines))


def test_what_is_not_delivered_is_said_and_the_exit_code_is_1(daemon: Daemon) -> None:
    result = run("send", *at(daemon, "cron"), "nobody", "-", stdin="one\ntwo\n")
    assert result.returncode == 1
    assert result.stderr.count("prefork-chat: nobody is not here") == 2


def test_a_taken_name_is_an_error(daemon: Daemon) -> None:
    daemon.join("cron")
    for words in (("send", *at(daemon, "cron"), "bob", "hi"), ("listen", *at(daemon, "cron"))):
        result = run(*words)
        assert result.returncode == 1
        assert "prefork-chat: cron is taken" in result.stderr


def test_without_a_server_the_exit_code_is_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    for command in (["send", "bob", "hi"], ["listen"]):
        result = run(*command, "--server", address)
        assert result.returncode == 3
        assert result.stderr == f"prefork-chat: no server at {address}: connection refused\n"


def test_a_silent_server_is_not_waited_for_too_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = run("send", "--server", address, "--timeout", "0.5", "bob", "hi")
    assert result.returncode == 1
    assert "time is over" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("send", "two words", "hi"),
        ("send", "bob", "hi", "--server", "nowhere"),
        ("send", "bob", "hi", "--name", "#bob"),
        ("send", "bob", "hi", "--password-file", "/nonexistent"),
        ("send", "bob"),
        ("listen", "--room", "dev"),
        ("listen", "--server", "unix:"),
        ("chat", "nowhere"),
    ],
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_room_is_entered_to_send_and_to_listen(daemon: Daemon) -> None:
    with listening(daemon, "bot", "--json", "--room", "#dev", "--room", "#ops") as bot:
        until(lambda: daemon_has_room(daemon, "#ops"), "it to enter")
        assert run("send", *at(daemon, "cron"), "#ops", "backup done").returncode == 0
        message = json.loads(bot.out())
        assert (message["room"], message["text"]) == ("#ops", "backup done")


def daemon_has_room(daemon: Daemon, room: str) -> bool:
    with daemon.connect() as client:
        client.send("ROOM")
        return any(room in line for line in client.read_until(r"OK ROOM .*"))


def test_a_server_without_rooms_is_an_error(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(limits_max_rooms=0)
    for words in (
        ("send", *at(daemon, "a"), "#dev", "hi"),
        ("listen", *at(daemon, "b"), "--room", "#dev"),
    ):
        result = run(*words)
        assert result.returncode == 1
        assert "this server has no rooms" in result.stderr


def test_the_password_is_taken_from_where_nobody_reads_it(daemon: Daemon, tmp_path: Path) -> None:
    owner = daemon.join("owner")
    owner.ask("PASS correct horse", "OK PASS")
    owner.leave()
    bob = daemon.join("bob")
    file = tmp_path / "password"
    file.write_text("correct horse\n")
    assert run("send", *at(daemon, "owner"), "bob", "1").returncode == 1
    environ = {"PREFORK_CHAT_PASSWORD": "correct horse"}
    assert run("send", *at(daemon, "owner"), "bob", "2", **environ).returncode == 0
    words = ("--password-file", str(file), "bob", "3")
    assert run("send", *at(daemon, "owner"), *words).returncode == 0
    bob.expect("CHAT owner 2", "CHAT owner 3")


def test_what_comes_is_printed_as_text(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    with listening(daemon, "bot") as bot:
        alice.say("bot", "hello \x1b[31m!")
        assert bot.out()[10:].endswith(" alice: hello ?[31m!")
        assert bot.end(signal.SIGTERM) == 0


def test_what_comes_is_printed_as_json(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    with listening(daemon, "bot", "--json") as bot:
        alice.say("bot", 'with "quotes" and 你好')
        message = json.loads(bot.out())
        assert {**message, "time": ""} == {
            "time": "",
            "room": None,
            "from": "alice",
            "text": 'with "quotes" and 你好',
        }
        assert bot.end(signal.SIGINT) == 0


def test_a_reader_who_goes_ends_it_quietly(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    with listening(daemon, "bot") as bot:
        bot.process.stdout.close()  # type: ignore[union-attr]
        alice.say("bot", "hello")
        assert bot.process.wait(PATIENCE_SECONDS) == 0
        assert bot.process.stderr.read() == ""  # type: ignore[union-attr]


def test_after_a_restart_it_goes_on_listening(start_daemon: StartDaemon) -> None:
    first = start_daemon()
    with listening(first, "bot") as bot:
        first.finish()
        assert bot.err().startswith("prefork-chat: no connection")
        second = start_daemon(listen=str(first.addresses[0]))
        until(lambda: second.stat()["names"] == 1, "it to join again")
        second.join("alice").say("bot", "hello again")
        assert bot.out().endswith("alice: hello again")


def test_messages_survive_workers_that_are_killed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    bob = daemon.join("bob")
    with running("send", *at(daemon, "cron"), "bob", "-") as sender:
        for number in range(20):
            sender.type(f"line {number}")
            bob.expect(f"CHAT cron line {number}")
            if number % 5 == 0:
                daemon.replace_worker(number % 2)
        sender.stdin.close()
        assert sender.process.wait(PATIENCE_SECONDS) == 0


def test_chat_without_a_terminal_talks_in_lines(daemon: Daemon) -> None:
    bob = daemon.join("bob")
    words = ("chat", str(daemon.addresses[0]), "--name", "alice")
    with running(*words) as chat:
        assert "you are alice" in chat.out()
        chat.type("/msg bob hi")
        bob.expect("CHAT alice hi")
        bob.send("CHAT alice and you?")
        while "[to you] bob: and you?" not in (line := chat.out()):
            assert line
        bob.expect("OK CHAT alice")
        chat.type("fine\n/quit")
        bob.expect("CHAT alice fine")
        assert chat.process.wait(PATIENCE_SECONDS) == 0


def test_the_end_of_the_input_waits_for_receipts(daemon: Daemon) -> None:
    bob = daemon.join("bob")
    result = run("chat", str(daemon.addresses[0]), "--name", "alice", stdin="/msg bob hi\nlast")
    assert result.returncode == 0
    bob.expect("CHAT alice hi")


def test_a_name_can_be_chosen_without_a_terminal(daemon: Daemon) -> None:
    daemon.join("alice")
    words = ("chat", str(daemon.addresses[0]), "--name", "alice")
    with running(*words) as chat:
        assert "alice is taken" in chat.out()
        assert chat.out() == "another name:"
        chat.type("alicia")
        assert "you are alicia" in chat.out()
        assert chat.end(signal.SIGINT) == 0


def test_scripts_start_without_what_only_screens_and_the_daemon_need() -> None:
    heavy = "asyncio", "msgspec", "prompt_toolkit", "structlog", "prefork_chat.config"
    code = (
        "import sys; from prefork_chat.cli.main import main\n"
        "try: main(['send', '--server', '127.0.0.1:1', 'bob', 'hi'])\n"
        "finally: print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not set(heavy) & set(result.stdout.split())


def test_without_prompt_toolkit_it_is_said_how_to_install_it() -> None:
    code = (
        "import sys; import prefork_chat.cli.chat as chat\n"
        "chat.find_spec = lambda name: None\n"
        "chat.has_terminal = lambda: True\n"
        "from prefork_chat.cli.main import main\n"
        "sys.exit(main(['chat']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "pip install 'prefork-chat[client]'" in result.stderr
