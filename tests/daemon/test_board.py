"""The board of a real daemon: kept up to date, whoever is killed, and gone at the end."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_chat import log
from prefork_chat.board.board import Board, key_of
from prefork_chat.channels.sysv import SysvMemory, remove_sysv
from tests.harness.compiler import compile_c
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from prefork_chat.board.layout import Content
    from tests.harness.daemon import Daemon, StartDaemon


def run(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefork_chat", "board", "--runtime-dir", str(directory), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def board_json(directory: Path) -> Any:
    done = run(directory, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def wait_until_written(daemon: Daemon) -> None:
    daemon.log.wait_for(log.ATTENDANT_READY, name="porter")
    until(lambda: run(daemon.directory).returncode == 0, "the board to be written")


def read(daemon: Daemon) -> Content:
    with Board.open_to_read(daemon.directory) as board:
        return board.read()


def porter_pid(daemon: Daemon) -> int:
    return int(daemon.log.events(log.ATTENDANT_SPAWNED, name="porter")[-1]["pid"])


def test_the_board_says_what_goes_on(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon(workers=2)
    wait_until_written(daemon)
    alice, bob = daemon.join("alice", worker=0), daemon.join("bob", worker=1)
    alice.ask("CHAT bob hi", "OK CHAT bob")
    bob.expect("CHAT alice hi")
    until(lambda: read(daemon).figures.delivered == 1, "the message to be counted")
    seen = board_json(daemon.directory)
    assert seen["figures"]["supervisor_pid"] == daemon.pid
    assert (seen["figures"]["clients"], seen["figures"]["names"]) == (2, 2)
    assert [row["pid"] for row in seen["workers"]] == daemon.worker_pids()
    assert [row["generation"] for row in seen["workers"]] == [1, 1]
    text = run(daemon.directory).stdout
    assert f"prefork-chat, pid {daemon.pid}, at " in text
    assert "clients    2, 2 with a name; 0 rooms" in text
    assert "worker 1   ready, pid " in text
    program = compile_c(Path(__file__).parents[1] / "board" / "reader.c", tmp_path)
    said = subprocess.run([program, daemon.directory], capture_output=True, text=True, check=True)
    assert "clients 2 names 2 workers 2\n" in said.stdout


def test_sums_outlive_workers_and_the_porter(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    wait_until_written(daemon)
    alice, bob = daemon.join("alice", worker=0), daemon.join("bob", worker=1)
    for number in range(1, 4):
        alice.ask("CHAT bob hi", "OK CHAT bob")
        bob.expect("CHAT alice hi")
        until(lambda: read(daemon).figures.delivered == number, "it to be counted")  # noqa: B023
        if number == 1:
            daemon.replace_worker(1)
        elif number == 2:
            daemon.log.expect(log.ATTENDANT_EXITED, log.ATTENDANT_THROTTLED)
            os.kill(porter_pid(daemon), signal.SIGKILL)
            daemon.log.wait_for(log.ATTENDANT_READY, name="porter", generation=2)
    assert [row.generation for row in read(daemon).workers] == [1, 2]


def test_the_notice_is_set_shown_and_kept(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1)
    wait_until_written(daemon)
    assert "notice     -" in run(daemon.directory).stdout
    done = run(daemon.directory, "--set-notice", "Café closes at 5")
    assert (done.returncode, done.stdout) == (0, "the notice is set\n")
    until(lambda: read(daemon).notice.text == "Café closes at 5", "the notice to be shown")
    assert "notice     Café closes at 5   (" in run(daemon.directory).stdout
    for length in (512, 100_000):  # the latter is more than the daemon would read
        refused = run(daemon.directory, "--set-notice", "x" * length)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == "prefork-chat: a notice has 511 bytes at most\n"
    refused = run(daemon.directory, "--set-notice", "a\tb")
    assert "without control characters" in refused.stderr
    assert run(daemon.directory, "--set-notice", "").stdout == "the notice is taken away\n"
    until(lambda: read(daemon).notice.text == "", "the notice to go")


def test_what_the_operator_says_to_everybody_is_shown(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1)
    wait_until_written(daemon)
    alice = daemon.join("alice")
    console = [sys.executable, "-m", "prefork_chat", "console"]
    subprocess.run(
        [*console, "--runtime-dir", str(daemon.directory)],
        input="backup at five\n",
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    alice.read_until("NOTE .*backup at five")
    until(lambda: read(daemon).broadcast.text == "backup at five", "it to be shown")


def test_a_watcher_sees_it_again_and_again(daemon: Daemon) -> None:
    wait_until_written(daemon)
    command = [sys.executable, "-m", "prefork_chat", "board", "--watch", "--json"]
    command += ["--runtime-dir", str(daemon.directory)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        stamps = [json.loads(watcher.stdout.readline())["figures"]["updated_ns"] for _ in "123"]
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(PATIENCE_SECONDS) == 0
        assert watcher.stderr.read() == ""
    assert stamps == sorted(stamps)
    assert stamps[0] < stamps[-1]


def test_on_a_terminal_the_next_picture_takes_the_place_of_the_last(daemon: Daemon) -> None:
    wait_until_written(daemon)
    terminal, slave = pty.openpty()
    command = [sys.executable, "-m", "prefork_chat", "board", "--watch"]
    command += ["--runtime-dir", str(daemon.directory)]
    with subprocess.Popen(command, stdout=slave, stderr=slave) as watcher:
        os.close(slave)
        seen = b""
        while seen.count(b"\x1b[H\x1b[Jprefork-chat, pid ") < 2:
            assert select.select([terminal], [], [], PATIENCE_SECONDS)[0], seen
            seen += os.read(terminal, 65536)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(PATIENCE_SECONDS) == 0
    os.close(terminal)


def test_where_there_is_no_board_that_is_said(start_daemon: StartDaemon, tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere")
    assert (done.returncode, done.stderr) == (
        4,
        f"prefork-chat: no daemon runs in {tmp_path}/nowhere\n",
    )
    daemon = start_daemon(workers=1, board_enabled=False)
    done = run(daemon.directory)
    assert done.returncode == 4
    assert "no daemon that has a board runs in " in done.stderr
    assert not daemon.log.events(log.ATTENDANT_SPAWNED, name="porter"), "nothing to look after"


def test_the_header_is_printed() -> None:
    text = run(Path("/"), "--header").stdout
    assert text.startswith("/* The board of a prefork-chat daemon")
    assert "struct prefork_chat_board {" in text


def test_somebody_who_removes_the_board_does_no_harm(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1)
    wait_until_written(daemon)
    key = next(iter(daemon.objects._boards()))["shmid"]
    subprocess.run(["ipcrm", "-m", key], check=True)
    daemon.join("alice").ask("PING", "OK PING")


def test_a_stranger_in_the_boards_place_keeps_nobody_from_chatting(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """Two directories may have one ftok(3) key."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    stranger = SysvMemory.create(key_of(directory), 4096)
    try:
        daemon = start_daemon(runtime_dir=directory)
        assert daemon.log.events(log.BOARD_FAILED)
        with daemon.join("alice") as alice:
            alice.ask("CHAT alice hi", "CHAT alice hi", "OK CHAT alice")
        daemon.stop()
        assert bytes(stranger.view) == b"\0" * 4096
    finally:
        stranger.close()
        remove_sysv("memory", key_of(directory), None)
