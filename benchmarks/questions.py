"""What HIST and FIND cost those who ask, of a daemon: `python -m benchmarks.questions`.

People with accounts talk, each with 32 messages in flight, until the daemon has confirmed a million
of them (`crowd`, a process of its own). Others ask, one question after the other: while those talk;
right after bursts, when some of it is not sorted yet; and when all is sorted and indexed, which is
waited for. Times are from the first byte of a question to the last one of its answer, so all is
in them: the loop, its clerk, the database. HIST is asked by talkers, and by people who have said a
few words before all the others.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from benchmarks import crowd
from benchmarks.crowd import PASSWORD, QUIET, Line, person, word
from benchmarks.daemon import serve
from benchmarks.progress import announce, show
from prefork_chat.history.schema import FILE_NAME, open_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

BURSTS: Final = 8
BURST: Final = 60_000
"""Messages, more than stay unsorted: after each there is half a second to ask with a long tail."""

READERS: Final = 40
PAUSE_SECONDS: Final = 0.02
"""Between two questions while people talk."""

STOP_SECONDS: Final = 5.0

Times: TypeAlias = dict[str, list[float]]
"""Of questions, by kind, in seconds."""


class CatchUpError(Exception):
    """What was waited for did not happen in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many people have how many messages stored, and how many questions of a kind are asked.

    `patience_seconds`: how long sorting and indexing may take.
    """

    rows: int
    people: int
    questions: int
    patience_seconds: float
    seed: int


class Readers:
    """People who ask, and what they ask; the same for the same seed."""

    def __init__(self, host: str, port: int, plan: Plan) -> None:
        self._plan: Final = plan
        self._random: Final = random.Random(plan.seed)
        people = range(0, plan.people, max(1, plan.people // READERS))
        self._talkers: Final = [_reader(host, port, number) for number in people]
        self._quiet: Final = [_reader(host, port, plan.people + number) for number in range(QUIET)]
        self._questions: Final[dict[str, Callable[[], tuple[Line, str]]]] = {
            "HIST 50": lambda: (self._talker(), "HIST 50"),
            "HIST 50, quiet": lambda: (self._random.choice(self._quiet), "HIST 50"),
            "HIST peer 50": lambda: (self._talker(), f"HIST {self._peer()} 50"),
            "FIND one word": lambda: (self._talker(), f"FIND {word(self._random)}"),
            "FIND two words": lambda: (
                self._talker(),
                f"FIND {word(self._random)} {word(self._random)}",
            ),
        }

    def ask(self, until: Callable[[], bool] = lambda: False) -> Times:
        """Ask questions of each kind, in turn, but none after `until`; return what they took."""
        times: Times = {kind: [] for kind in self._questions}
        for _ in range(self._plan.questions):
            for kind, make in self._questions.items():
                if until():
                    return times
                line, question = make()
                started = time.perf_counter()
                line.ask(question, (f"OK {question[:4]}".encode(),))
                times[kind].append(time.perf_counter() - started)
        return times

    def close(self) -> None:
        """Close all connections."""
        for line in (*self._talkers, *self._quiet):
            line.close()

    def _talker(self) -> Line:
        return self._random.choice(self._talkers)

    def _peer(self) -> str:
        return person(self._random.randrange(self._plan.people))


def _reader(host: str, port: int, number: int) -> Line:
    line = Line(socket.create_connection((host, port)))
    line.ask(f"READ {person(number)} {PASSWORD}", (b"OK READ",))
    return line


class File:
    """The daemon's history, looked at from outside."""

    def __init__(self, path: Path) -> None:
        self._connection: Final = open_reader(path)

    def tail_bytes(self) -> int:
        """Return how much is not sorted."""
        found = self._connection.execute("SELECT total(length(body)) FROM tail").fetchone()
        return int(found[0])

    def fact(self, name: str) -> int:
        """Return up to which message all is sorted (`last`) or indexed (`indexed`)."""
        found = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,))
        return int(found.fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def await_all(self, what: str, rows: int, started: float, patience_seconds: float) -> float:
        """Wait until so many messages are sorted or indexed; return how many seconds it took.

        From `started` on. Raises CatchUpError.
        """
        while (done := self.fact(what)) < rows:
            seconds = time.monotonic() - started
            if seconds > patience_seconds:
                raise CatchUpError(f"after {seconds:.0f} s only {done:,} of {rows:,}")
            show(f"{what}: {done:,} of {rows:,}")
            time.sleep(0.05)
        return time.monotonic() - started


def _told(times: Times) -> Iterator[str]:
    """Give a line for each kind of question."""
    for kind, found in times.items():
        if found:
            found.sort()
            median, high = found[len(found) // 2], found[len(found) * 99 // 100]
            yield (
                f"  {kind:<16}p50 {median * 1e3:6.2f} ms   p99 {high * 1e3:6.2f} ms   "
                f"max {found[-1] * 1e3:6.2f} ms   ({len(found):,})"
            )


def _report(title: str, times: Times) -> None:
    show("")
    print(f"{title}:", *_told(times), sep="\n", flush=True)


class Talk:
    """The crowd, told to talk; what others ask meanwhile and right after that."""

    def __init__(self, pipe: Connection, readers: Readers, file: File, plan: Plan) -> None:
        self._plan: Final = plan
        self._pipe: Final = pipe
        self._readers: Final = readers
        self._file: Final = file
        self.stored = QUIET
        self.ended = 0.0
        self.tail_bytes = 0

    def go(self, rows: int) -> tuple[float, Times, Times]:
        """Have messages stored: how many a second, and how long questions took.

        Those that were asked meanwhile, and those from then on until all was sorted.
        """
        self._pipe.send(rows)
        meanwhile = self._readers.ask(self._is_over)
        stored, seconds = self._pipe.recv()
        self.ended = time.monotonic()
        self.stored += stored
        self.tail_bytes = self._file.tail_bytes()
        after = self._readers.ask(lambda: self._file.tail_bytes() == 0)
        return stored / seconds, meanwhile, after

    def _is_over(self) -> bool:
        show(f"sorted: {self._file.fact('last'):,}")
        return self._pipe.poll(PAUSE_SECONDS)

    def catch_up(self) -> None:
        """Wait until all is sorted and indexed, and say how long that took."""
        announce("it is sorted and indexed")
        for what, fact in (("sorted", "last"), ("indexed", "indexed")):
            seconds = self._file.await_all(
                fact, self.stored, self.ended, self._plan.patience_seconds
            )
            show("")
            print(f"all {what} {seconds:.1f} s after the last was confirmed", flush=True)


def measure(host: str, port: int, path: Path, plan: Plan) -> None:
    """Have people talk and others ask; print what it took. Raises CatchUpError."""
    near, far = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_talk, args=(host, port, plan, far, near))
    process.start()
    far.close()
    announce("people make accounts")
    with contextlib.ExitStack() as stack:
        stack.callback(_end, process, near)
        near.recv()
        readers = Readers(host, port, plan)
        stack.callback(readers.close)
        file = File(path)
        stack.callback(file.close)
        talk = Talk(near, readers, file, plan)
        burst = min(BURST, plan.rows // 2 // BURSTS)
        announce(f"they say {plan.rows - BURSTS * burst:,} messages")
        rate, meanwhile, _ = talk.go(plan.rows - BURSTS * burst)
        print(f"stored and confirmed: {talk.stored:,} messages, {rate:,.0f} a second")
        _report("asked meanwhile", meanwhile)
        talk.catch_up()
        announce(f"they say {burst:,} more, {BURSTS} times")
        times = [talk.go(burst)[2] for _ in range(BURSTS)]
        together = {kind: [each for some in times for each in some[kind]] for kind in times[0]}
        _report(f"asked with up to {talk.tail_bytes / 1e6:,.1f} MB in the tail", together)
        talk.catch_up()
        announce("questions are asked")
        _report("asked then", readers.ask())
        print(f"messages: {talk.stored:,}; file: {path.stat().st_size / 1e6:,.0f} MB")


def _talk(host: str, port: int, plan: Plan, pipe: Connection, other: Connection) -> None:
    other.close()  # so that its end is noticed
    crowd.talk(host, port, plan.people, plan.seed, pipe)


def _end(process: BaseProcess, pipe: Connection) -> None:
    pipe.close()
    process.join(STOP_SECONDS)
    process.terminate()  # it waits for something that will not come
    process.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="messages to be stored")
    parser.add_argument("--people", type=int, default=200, help="who talk")
    parser.add_argument("--questions", type=int, default=1000, help="of each kind, in each state")
    parser.add_argument(
        "--patience", type=float, default=600, help="seconds that sorting and indexing may take"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="options")
    chosen = parser.parse_args(arguments)
    options = dict(option.split("=", 1) for option in chosen.options)
    plan = Plan(
        rows=chosen.rows,
        people=chosen.people,
        questions=chosen.questions,
        patience_seconds=chosen.patience,
        seed=chosen.seed,
    )
    with serve(options, "tcp", None) as server:
        assert server.log is not None
        host, _, port = server.address.rpartition(":")
        path = server.log.parent / "state" / FILE_NAME
        try:
            measure(host, int(port), path, plan)
        except CatchUpError as error:
            print(error, file=sys.stderr)
            return 1
        print(*server.complaints(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
