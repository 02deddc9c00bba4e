"""The console at a terminal: the line that is being typed stays whole, whatever comes."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.harness.teletype import Teletype

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.daemon import Daemon

TIME = r"\d\d:\d\d:\d\d"


def command(directory: Path, *flags: str) -> list[str]:
    words = ["-m", "prefork_chat", "console", "--runtime-dir", str(directory)]
    return [sys.executable, *words, *flags]


@pytest.fixture
def terminal(daemon: Daemon) -> Iterator[Teletype]:
    """A console of the common daemon at a terminal, when it shows its prompt."""
    with Teletype(command(daemon.directory)) as terminal:
        terminal.wait_until(lambda: terminal.rows[-1] == "operator> ")
        yield terminal


def test_what_comes_does_not_tear_the_line_that_is_being_typed(
    daemon: Daemon, terminal: Teletype
) -> None:
    terminal.press("helo")
    terminal.press("\x1b[D")
    terminal.wait_until(lambda: terminal.column == len("operator> hel"))
    alice = daemon.join("alice")
    terminal.wait_for_row(f"{TIME} alice joined from .*")
    assert terminal.rows[-1] == "operator> helo"
    assert terminal.column == len("operator> hel")
    terminal.press("l\r")
    terminal.wait_for_row("-- told 1 person")
    alice.expect("NOTE <operator> hello")
    assert terminal.rows[-1] == "operator> "
    prompts = [row for row in terminal.rows if "operator>" in row]
    assert prompts == ["operator> hello", "operator> "]


def test_a_flood_leaves_the_line_whole(daemon: Daemon, terminal: Teletype) -> None:
    alice = daemon.join("alice")
    terminal.press("/kick ali")
    for _ in range(20):
        alice.send(*["CHAT alice hello"] * 50)
        alice.read_lines(100)
    terminal.wait_until(lambda: sum("alice -> alice" in row for row in terminal.rows) == 1000)
    assert terminal.rows[-1] == "operator> /kick ali"
    terminal.press("\t\r")
    terminal.wait_for_row("-- kicked alice")
    alice.expect("ERR * DENIED the operator has closed this connection")


def test_ctrl_d_ends_it_and_the_terminal_is_as_it_was(daemon: Daemon) -> None:
    with Teletype(["sleep", "60"]) as untouched:
        usual = untouched.mode()
    with Teletype(command(daemon.directory)) as terminal:
        terminal.wait_until(lambda: terminal.rows[-1] == "operator> ")
        assert terminal.mode() != usual
        terminal.press("never sent\x03")
        terminal.wait_for_row("-- Ctrl-D or /quit ends the console; the daemon goes on")
        terminal.press("\x04")
        assert terminal.wait() == 0
        assert terminal.mode() == usual


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_does_not_leave_the_terminal_in_disorder(
    terminal: Teletype, number: signal.Signals
) -> None:
    with Teletype(["sleep", "60"]) as untouched:
        usual = untouched.mode()
    terminal.process.send_signal(number)
    assert terminal.wait() == 128 + number
    assert terminal.mode() == usual


def test_it_takes_the_terminal_again_after_a_stop(daemon: Daemon, terminal: Teletype) -> None:
    own = terminal.mode()
    terminal.press("half a l")
    terminal.wait_until(lambda: terminal.rows[-1] == "operator> half a l")
    terminal.process.send_signal(signal.SIGSTOP)
    with Teletype(["stty", "sane"]) as other:
        other.wait()
    terminal.resize(20)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.press("ine")
    terminal.wait_until(lambda: terminal.rows[-1].endswith("ine"))
    assert len(terminal.rows[-1]) <= 20
    assert terminal.mode() == own
    daemon.join("alice")
    terminal.wait_for_row(f"{TIME} alice joined from .*")


def test_a_terminal_that_can_do_nothing_gets_plain_lines(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    with Teletype(command(daemon.directory), term="dumb") as terminal:
        terminal.press("good morning\n/quit\n")
        assert terminal.wait() == 0
        terminal.wait_for_row("-- told 1 person")
    alice.expect("NOTE <operator> good morning")
