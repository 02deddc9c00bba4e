"""`prefork-chat top` at a real daemon: in a real terminal, in a pipe, and with no daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_chat.attachment import ATTENDANTS, PAIRS, attach
from prefork_chat.log import ATTENDANT_READY, ATTENDANT_SPAWNED
from prefork_chat.observing.snapshot import Observer, read_fill, read_usage
from tests.harness import terminal
from tests.harness.processes import cpu_seconds
from tests.harness.terminal import Terminal
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon, StartDaemon

needs_tmux = pytest.mark.skipif(not terminal.is_there(), reason="needs tmux, for a terminal")


def command(directory: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "prefork_chat", "top", "--runtime-dir", str(directory), *words]


def run(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(directory, *words),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def top_json(directory: Path) -> Any:
    done = run(directory, "--json", "--interval", "0.1")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_once_prints_one_picture(daemon: Daemon) -> None:
    daemon.join("alice")
    done = run(daemon.directory, "--once", "--interval", "0.2")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"pid {daemon.pid}  2 of 2 workers ready" in done.stdout
    assert "1 of 10,000 clients, 1 with a name" in done.stdout
    for pid in daemon.worker_pids():
        assert re.search(rf"^ +\d +{pid} +1 +ready ", done.stdout, re.MULTILINE)


def test_json_has_what_there_is(daemon: Daemon) -> None:
    alice = daemon.join("alice", worker=1)
    alice.ask("PING", "OK PING")
    seen = top_json(daemon.directory)
    assert seen["daemon"]["pid"] == daemon.pid
    assert seen["daemon"]["listen"] == [str(daemon.addresses[0])]
    assert seen["totals"]["clients"] == 1
    assert [worker["pid"] for worker in seen["workers"]] == daemon.worker_pids()
    assert [sum(worker["clients"]) for worker in seen["workers"]] == [0, 1]
    assert all(worker["memory_bytes"] > 1_000_000 for worker in seen["workers"])
    assert all(worker["queue_share"] == 0 for worker in seen["workers"])
    assert all(0 <= worker["heartbeat_seconds"] < 10 for worker in seen["workers"])


def test_those_who_are_no_workers_are_listed_too(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1)
    daemon.log.wait_for(ATTENDANT_READY, name="porter")
    pids = {event["name"]: event["pid"] for event in daemon.log.events(ATTENDANT_SPAWNED)}
    seen = {each["name"]: each for each in top_json(daemon.directory)["attendants"]}
    assert {name: each["pid"] for name, each in seen.items()} == pids
    assert seen["porter"]["state"] == "ready"
    assert seen["porter"]["memory_bytes"] > 1_000_000
    picture = run(daemon.directory, "--once", "--interval", "0.1").stdout
    assert f"porter     pid {pids['porter']}  generation 1  ready" in picture


def test_a_queue_that_fills_is_seen_also_of_a_stopped_worker(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    alice, bob = daemon.join("alice", worker=0), daemon.join("bob", worker=1)
    with daemon.stopped_worker(1):
        alice.send("CHAT bob hello")

        def queued() -> int:
            return int(top_json(daemon.directory)["workers"][1]["queued_bytes"])

        until(lambda: queued() > 0, "the message to be seen in the queue")
    bob.expect("CHAT alice hello")
    until(lambda: queued() == 0, "the queue to be empty")


def test_rooms_are_told_with_what_is_said_in_them(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", worker=0), daemon.join("bob", worker=1)
    for person in (alice, bob):
        person.send("ENTR #dev")
        person.read_until(r"OK ENTR #dev n=\d")

    words = command(daemon.directory, "--json", "--interval", "3")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as top:
        until(lambda: shares_memory(top.pid), "top to look at it")
        for _ in range(3):
            time.sleep(0.1)  # the first of them may come before top looks for the first time
            alice.send("CHAT #dev hello")
            bob.read_until("CHAT #dev alice hello")
        said, _ = top.communicate(timeout=PATIENCE_SECONDS)
    (room,) = json.loads(said)["rooms"]
    assert (room["name"], room["members"]) == ("#dev", 2)
    assert 0 < room["messages_per_second"] <= 1


def test_the_end_of_a_worker_is_told_with_its_reason(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    victim = daemon.worker_pid(1)
    daemon.replace_worker(1)
    end = top_json(daemon.directory)["endings"][0]
    told = (end["p_id"], end["generation"], end["pid"], end["how"])
    assert told == (1, 1, victim, "SIGKILL")
    assert end["meaning"] in {"failed", "crashed"}
    picture = run(daemon.directory, "--once", "--interval", "0.1").stdout
    assert f"worker 1 generation 1 (pid {victim}) {end['meaning']}: SIGKILL after" in picture


def test_without_a_daemon_that_is_said_in_one_line(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"prefork-chat: no daemon runs in {tmp_path}: --runtime-dir or ")


def test_a_daemon_that_ends_meanwhile_is_said_at_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1)
    words = command(daemon.directory, "--once", "--interval", "1000")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as top:
        until(lambda: shares_memory(top.pid), "top to look at it")
        daemon.finish()
        _, complaint = top.communicate(timeout=PATIENCE_SECONDS)
    assert complaint == f"prefork-chat: the daemon in {daemon.directory} has ended\n"
    assert top.returncode == 3


def shares_memory(pid: int) -> bool:
    return "/dev/shm/prefork-chat" in Path(f"/proc/{pid}/maps").read_text()


def test_into_a_pipe_it_prints_picture_after_picture(daemon: Daemon) -> None:
    words = command(daemon.directory, "--interval", "0.1")
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as top:
        assert top.stdout is not None
        assert top.stderr is not None
        pictures = 0
        while pictures < 3:
            pictures += top.stdout.readline().startswith("prefork-chat ")
        top.stdout.close()
        assert top.wait(PATIENCE_SECONDS) == 0, "nobody reads any more"
        assert top.stderr.read() == ""


def test_ctrl_c_ends_it_without_a_word(daemon: Daemon) -> None:
    words = command(daemon.directory, "--interval", "0.1")
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as top:
        assert top.stdout is not None
        assert top.stderr is not None
        top.stdout.readline()
        top.send_signal(signal.SIGINT)
        assert top.wait(PATIENCE_SECONDS) == 0
        assert top.stderr.read() == ""


@needs_tmux
def test_on_a_terminal_it_draws_sorts_and_helps(daemon: Daemon, tmp_path: Path) -> None:
    with Terminal(tmp_path, command(daemon.directory, "--interval", "0.2")) as screen:
        screen.wait_for("2 of 2 workers ready")
        screen.wait_for("WORKERv")
        daemon.join("alice")
        screen.wait_for("1 of 10,000 clients, 1 with a name")
        screen.press("u")
        screen.wait_for("CPUv")
        screen.press("u")
        screen.wait_for("CPU^")
        screen.press("h")
        assert "WORKER" in screen.wait_for("What the columns mean")
        screen.press("h")
        screen.wait_for("workers ready")
        screen.press("q")
        assert screen.wait_for_end() == 0


@needs_tmux
def test_it_fits_into_any_terminal(daemon: Daemon, tmp_path: Path) -> None:
    with Terminal(tmp_path, command(daemon.directory, "--interval", "0.2")) as screen:
        screen.wait_for("BEAT")
        screen.resize(20, 4)
        until(lambda: len(screen.screen().splitlines()) == 4, "the small picture")
        assert screen.wait_for("prefork-chat").splitlines()[0].startswith("prefork-chat ")
        screen.resize(200, 40)
        screen.wait_for("BEAT")
        screen.press("q")
        assert screen.wait_for_end() == 0


@needs_tmux
def test_when_the_daemon_ends_the_terminal_is_given_back(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(workers=1)
    with Terminal(tmp_path, command(daemon.directory, "--interval", "0.2")) as screen:
        screen.wait_for("workers ready")
        daemon.finish()
        assert screen.wait_for_end() == 3
        assert "has ended" in screen.history()


@needs_tmux
@pytest.mark.parametrize("term", ["dumb", "no-such-terminal"])
def test_a_terminal_that_cannot_draw_gets_lines(daemon: Daemon, tmp_path: Path, term: str) -> None:
    words = command(daemon.directory, "--interval", "0.2")
    with Terminal(tmp_path, words, term=term) as screen:
        until(lambda: screen.history().count("workers ready") > 2, "three pictures")
        assert "\x1b" not in screen.history()
        screen.press("C-c")
        assert screen.wait_for_end() == 0


@needs_tmux
def test_it_goes_on_while_the_daemon_becomes_another_program(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(workers=1)
    with Terminal(tmp_path, command(daemon.directory, "--interval", "0.2")) as screen:
        screen.wait_for("workers ready")
        daemon.signal(signal.SIGUSR2)
        screen.wait_for("worker 0 generation 1")
        daemon.log.wait_for("replacement.finished")
        screen.wait_for("1 of 1 workers ready")
        screen.press("q")
        assert screen.wait_for_end() == 0


@needs_tmux
def test_it_takes_next_to_no_cpu(daemon: Daemon, tmp_path: Path) -> None:
    with Terminal(tmp_path, command(daemon.directory, "--interval", "0.1")) as screen:
        screen.wait_for("workers ready")
        pid = screen.pid()
        begun = cpu_seconds([pid])
        pictures: set[str] = set()

        def have_seen_twenty() -> bool:
            pictures.add(screen.screen())
            return len(pictures) >= 20

        until(have_seen_twenty, "20 pictures")
        assert cpu_seconds([pid]) - begun < 0.2, "1 % of a CPU is 0.01 s a picture"


def test_what_is_not_there_has_no_usage() -> None:
    assert read_usage(0) is None
    usage = read_usage(os.getpid())
    assert usage is not None
    assert usage.memory_bytes > 0


def test_a_pair_tells_how_full_it_is() -> None:
    inlet, outlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with inlet, outlet:
        assert read_fill(inlet.fileno()).queued_bytes == 0
        inlet.send(b"x" * 1000)
        fill = read_fill(inlet.fileno())
        assert 1000 <= fill.queued_bytes < fill.limit_bytes
        outlet.recv(1000)
        assert read_fill(inlet.fileno()).queued_bytes == 0


def test_a_look_is_cheap(daemon: Daemon) -> None:
    """The docstring's figure, with room for a machine that is busy."""
    with attach(daemon.directory, ATTENDANTS, PAIRS) as attached:
        observer = Observer.at(attached)
        begun = cpu_seconds([os.getpid()])
        for _ in range(100):
            observer.take()
        assert cpu_seconds([os.getpid()]) - begun < 0.5
