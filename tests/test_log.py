"""What leaves a process as a log line, into real pipes, terminals and files."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from prefork_chat import log
from prefork_chat.config import LogConfig
from prefork_chat.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO


@pytest.fixture(autouse=True)
def _log_to_stderr_again() -> Iterator[None]:
    yield
    log.configure(LogConfig(), sys.__stderr__)


class Pipe:
    """A pipe whose writing end is a text file, as stderr is."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.stream: TextIO = os.fdopen(writer, "w")

    def lines(self) -> list[str]:
        """Return the lines written so far."""
        ready, _, _ = select.select([self.reader], [], [], 0)
        data = os.read(self.reader, 1 << 20) if ready else b""
        return data.decode().splitlines()

    def records(self) -> list[dict[str, Any]]:
        """Return the lines written so far, each of them JSON."""
        return [json.loads(line) for line in self.lines()]


def fill(fd: int) -> None:
    """Write until nothing more is taken."""
    try:
        while os.write(fd, bytes(1024)):
            pass
    except BlockingIOError:
        return


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(*os.pipe())
    yield pipe
    pipe.stream.close()
    os.close(pipe.reader)


def test_into_a_pipe_goes_one_json_object_a_line(pipe: Pipe) -> None:
    log.configure(LogConfig(), pipe.stream)
    log.get_logger(p_id=1).info(log.WORKER_EXITED, generation=3, name=b"caf\xe9")
    (record,) = pipe.records()
    assert list(record)[:3] == ["timestamp", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("timestamp"))
    assert record == {
        "level": "info",
        "event": "worker.exited",
        "p_id": 1,
        "generation": 3,
        "name": "caf\\xe9",
        "pid": os.getpid(),
    }


def test_a_line_about_another_process_keeps_that_process_s_pid(pipe: Pipe) -> None:
    log.configure(LogConfig(), pipe.stream)
    log.get_logger().info(log.WORKER_SPAWNED, pid=7)
    assert pipe.records()[0]["pid"] == 7


def test_no_text_can_start_a_line_or_reach_a_terminal_raw(pipe: Pipe) -> None:
    log.configure(LogConfig(), pipe.stream)
    log.get_logger().info(log.LISTENER_OPENED, address="a\nb\x1b[31m\x9b\u202e\ud800")
    (line,) = pipe.lines()
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
def test_lines_below_the_level_are_left_out(pipe: Pipe, level: Any, expected: list[str]) -> None:
    log.configure(LogConfig(level=level), pipe.stream)
    logger = log.get_logger()
    logger.debug("x.done")
    logger.info("x.done")
    logger.warning("x.done")
    logger.error("x.done")
    logger.critical("x.done")
    assert [record["level"] for record in pipe.records()] == expected


def test_a_logger_made_earlier_follows_a_new_configuration(pipe: Pipe) -> None:
    logger = log.get_logger(p_id=1)
    log.configure(LogConfig(level="error"), pipe.stream)
    logger.info("x.done")
    log.configure(LogConfig(level="info"), pipe.stream)
    logger.info("y.done")
    assert [(r["event"], r["p_id"]) for r in pipe.records()] == [("y.done", 1)]


def test_a_traceback_is_in_the_line_but_no_local_variable(pipe: Pipe) -> None:
    log.configure(LogConfig(), pipe.stream)
    said = "".join(reversed("dias bob"))
    try:
        len(said) // int(said[:0] or 0)
    except ZeroDivisionError:
        log.get_logger().exception("x.failed")
    (line,) = pipe.lines()
    assert "ZeroDivisionError" in json.loads(line)["exception"]
    assert "bob said" not in line


def test_the_console_format_is_for_people(pipe: Pipe) -> None:
    log.configure(LogConfig(format="console"), pipe.stream)
    log.get_logger(p_id=1).info(log.WORKER_EXITED, name=b"bob")
    (line,) = pipe.lines()
    assert "worker.exited" in line
    assert "name=bob" in line
    assert "\x1b" not in line


def test_a_terminal_gets_the_console_format_in_colour() -> None:
    reader, writer = pty.openpty()
    terminal = Pipe(reader, writer)
    log.configure(LogConfig(), terminal.stream)
    log.get_logger().info(log.WORKER_EXITED)
    (line,) = terminal.lines()
    terminal.stream.close()
    os.close(reader)
    assert "worker.exited" in line
    assert "\x1b[" in line


def test_the_json_format_is_kept_on_a_terminal_when_asked_for() -> None:
    reader, writer = pty.openpty()
    terminal = Pipe(reader, writer)
    log.configure(LogConfig(format="json"), terminal.stream)
    log.get_logger().info(log.WORKER_EXITED)
    assert terminal.records()[0]["event"] == "worker.exited"
    terminal.stream.close()
    os.close(reader)


def test_the_journal_gets_a_priority_before_each_line(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(pipe.stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    log.configure(LogConfig(level="debug"), pipe.stream)
    logger = log.get_logger()
    logger.debug("x.done")
    logger.info("x.done")
    logger.warning("x.done")
    logger.error("x.done")
    logger.critical("x.done")
    assert [line[:4] for line in pipe.lines()] == ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{"]


def test_stderr_that_is_not_the_journal_gets_no_priority(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$JOURNAL_STREAM is inherited by what a service starts with its stderr elsewhere."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log.configure(LogConfig(), pipe.stream)
    log.get_logger().info("x.done")
    assert pipe.lines()[0].startswith("{")


def test_a_closed_descriptor_is_not_the_journal(pipe: Pipe) -> None:
    closed = os.dup(pipe.reader)
    os.close(closed)
    assert not log.is_journal_stream(closed, {"JOURNAL_STREAM": "8:1"})


def test_a_reader_who_has_gone_stops_nobody(pipe: Pipe) -> None:
    log.configure(LogConfig(), pipe.stream)
    os.close(pipe.reader)
    log.get_logger().info("x.done")
    pipe.reader = os.open(os.devnull, os.O_RDONLY)


def test_a_reader_who_is_stuck_stops_nobody(pipe: Pipe) -> None:
    log.configure(LogConfig(), pipe.stream)
    os.set_blocking(pipe.stream.fileno(), False)
    fill(pipe.stream.fileno())
    os.set_blocking(pipe.stream.fileno(), True)
    log.get_logger().info("x.done")
    assert "x.done" not in "".join(pipe.lines())
    log.get_logger().info("y.done")
    assert "y.done" in "".join(pipe.lines())


def test_lines_of_several_threads_and_processes_do_not_mix(tmp_path: Path) -> None:
    """The supervisor's log file is shared by all workers, each with several threads."""
    path = tmp_path / "log"
    lines_each, threads_each, children = 200, 3, 3
    with path.open("a") as stream:
        log.configure(LogConfig(), stream)
        pids: list[int] = []
        for child in range(children):
            pid = os.fork()
            if pid == 0:
                _log_from_threads(child, threads_each, lines_each)
                os._exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * children
    records = [json.loads(line) for line in path.read_text().splitlines()]
    seen = {(record["child"], record["thread"], record["number"]) for record in records}
    assert len(records) == len(seen) == lines_each * threads_each * children


def _log_from_threads(child: int, threads_each: int, lines_each: int) -> None:
    def write(thread: int) -> None:
        logger = log.get_logger(child=child, thread=thread)
        for number in range(lines_each):
            logger.info("x.done", number=number, padding="x" * 300)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(threads_each)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_every_event_is_a_noun_and_what_became_of_it() -> None:
    events = [value for name, value in vars(log).items() if name.isupper() and name[0] != "_"]
    events = [event for event in events if isinstance(event, str)]
    assert len(events) == len(set(events)) > 10
    for event in events:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*\.[a-z]+", event), event


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def test_lines_are_appended_to_the_file_as_json(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    path.write_text('{"event": "earlier"}\n')
    log.configure(LogConfig(file=str(path)))
    log.get_logger().info("first")
    assert events(path) == ["earlier", "first"]
    log.configure(LogConfig(file=str(path), level="warning"))
    log.get_logger().info("unimportant")
    log.get_logger().warning("second")
    assert events(path) == ["earlier", "first", "second"]


def test_a_file_that_has_been_moved_or_removed_is_left_alone(tmp_path: Path) -> None:
    path, moved = tmp_path / "daemon.log", tmp_path / "daemon.log.1"
    log.configure(LogConfig(file=str(path)))
    logger = log.get_logger(p_id=1)
    logger.info("first")
    path.rename(moved)
    logger.info("second")
    logger.info("third")
    assert (events(moved), events(path)) == (["first"], ["second", "third"])
    path.unlink()
    logger.info("fourth")
    assert events(path) == ["fourth"]
    path.rename(moved)
    path.mkdir()
    logger.info("nowhere else to go")
    assert events(moved) == ["fourth", "nowhere else to go"]


def test_rotating_opens_no_more_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    log.configure(LogConfig(file=str(path)))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        log.get_logger().info("line")
        path.unlink()
        log.configure(LogConfig(file=str(path)))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_cannot_be_opened_is_an_error_and_changes_nothing(
    pipe: Pipe, tmp_path: Path
) -> None:
    log.configure(LogConfig(), pipe.stream)
    path = tmp_path / "missing" / "daemon.log"
    with pytest.raises(StartError, match=rf"log.file: {path}: No such file or directory"):
        log.configure(LogConfig(file=str(path)))
    log.get_logger().info("still here")
    assert [record["event"] for record in pipe.records()] == ["still here"]


def test_a_logger_that_was_bound_to_a_closed_file_writes_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its descriptor's number may be a client's by now."""
    log.configure(LogConfig(file=str(tmp_path / "daemon.log")))
    bound = log.get_logger().bind(p_id=1)
    log.configure(LogConfig(file=str(tmp_path / "other.log")))
    with open(os.devnull):
        bound.info("late")
    assert "late" in capfd.readouterr().err
