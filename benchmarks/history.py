"""What storing, reading and finding costs, on a history of its own: `python -m benchmarks.history`.

No daemon: this is the history's own part of it, without datagrams (see `questions`). Messages of
nine words of a skewed vocabulary between random people of a thousand. Stored in transactions of
different sizes, for the historian takes in one what has come while it wrote the last: few when
little comes, and thousands in a flood. Stored is what is committed; *sustained* is what can be
stored for ever, for everything is sorted meanwhile, too. Times are medians and 99th percentiles of
single questions.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import crowd
from prefork_chat.history.archive import Archive
from prefork_chat.history.reading import Page, Range, Reader
from prefork_chat.history.search import Indexer, find
from prefork_chat.history.sorting import Sorter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PEOPLE: Final = 1000
SAMPLES: Final = 20_000
QUESTIONS: Final = 1000
BATCHES: Final = (100, 1000, 5000)
TAIL_BYTES: Final = 1024 * 1024
"""Not sorted at any time; a flood leaves more, for a moment (see `questions`)."""


class Talk:
    """Random people who say random things; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random: Final = random.Random(seed)
        self.names: Final = [f"user{number}" for number in range(PEOPLE)]
        self._samples: Final = [
            (
                self.name(),
                self.name(),
                " ".join(self.word() for _ in range(crowd.WORDS)),
            )
            for _ in range(SAMPLES)
        ]

    def name(self) -> str:
        """Return somebody's name."""
        return self.random.choice(self.names)

    def word(self) -> str:
        """Return a word: a few are in every other message, most are rare."""
        return crowd.word(self.random)

    def store(self, archive: Archive, number: int, batch: int) -> tuple[float, float]:
        """Store so many messages in transactions of so many, and sort what is too much.

        Returns how many seconds each took.
        """
        sorter = Sorter(archive)
        started = time.perf_counter()
        sorting = 0.0
        stored = 0
        while stored < number:
            size = min(batch, number - stored)
            with archive.transaction(stored):
                for index in range(stored, stored + size):
                    sender, recipient, text = self._samples[index % SAMPLES]
                    line = b"CHAT %b %b" % (recipient.encode(), text.encode())
                    archive.add(archive.person(sender, sender), line)
                archive.note_turn({0: stored, 1: stored}, [(0, b"x" * 2000)])
            stored += size
            before = time.perf_counter()
            while archive.tail_bytes > TAIL_BYTES:
                sorter.advance()
            sorting += time.perf_counter() - before
        return time.perf_counter() - started - sorting, sorting


def sort_all(archive: Archive) -> float:
    """Sort what is in the tail; return how many seconds it took."""
    sorter = Sorter(archive)
    started = time.perf_counter()
    while sorter.behind:
        sorter.advance()
    return time.perf_counter() - started


def measure(ask: Callable[[], Page]) -> str:
    """Return median and 99th percentile of a question's time, in words."""
    times = []
    for _ in range(QUESTIONS):
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    times.sort()
    median, high = times[len(times) // 2], times[len(times) * 99 // 100]
    return f"p50 {median * 1e3:6.2f} ms   p99 {high * 1e3:6.2f} ms"


def index_all(archive: Archive) -> str:
    """Bring the index up; return how fast, in words."""
    indexer = Indexer(archive)
    first = started = time.perf_counter()
    longest = 0.0
    while indexer.behind:
        indexer.advance()
        now = time.perf_counter()
        longest, started = max(longest, now - started), now
    rate = archive.last_id / (started - first)
    return f"{rate:9,.0f} messages/s   longest step {longest * 1e3:.0f} ms"


def ask_all(talk: Talk, reader: Reader) -> None:
    """Ask what people ask, and print how long it took."""
    questions: dict[str, Callable[[], Page]] = {
        "HIST 50": lambda: reader.everything(talk.name(), (), Range(50)),
        "HIST peer 50": lambda: reader.conversation(talk.name(), talk.name(), Range(50)),
        "FIND one word": lambda: find(reader, talk.name(), (), talk.word(), Range()),
        "FIND two words": lambda: find(
            reader, talk.name(), (), f"{talk.word()} {talk.word()}", Range()
        ),
    }
    for name, ask in questions.items():
        print(f"  {name:<16}{measure(ask)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="messages in the history")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    talk = Talk(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="prefork-chat-benchmark-") as folder:
        path = Path(folder, "history.db")
        archive = Archive(path, b"benchmark")
        left = chosen.rows
        reader = Reader(path)
        print(f"stored, until there are {chosen.rows:,} messages:")
        for batch in BATCHES:
            share = left if batch == BATCHES[-1] else min(left, chosen.rows // 10)
            storing, sorting = talk.store(archive, share, batch)
            if batch == BATCHES[-1]:
                print(f"asked, {archive.tail_bytes / 1e6:,.1f} MB of it in the tail:")
                ask_all(talk, reader)
            sustained = share / (storing + sorting + sort_all(archive))
            rates = f"{share / storing:13,.0f} messages/s   sustained {sustained:9,.0f}"
            print(f"  {batch:5} at once{rates}")
            left -= share
        print("asked, all sorted, nothing indexed yet:")
        ask_all(talk, reader)
        print(f"indexed: {index_all(archive)}")
        print(f"file: {path.stat().st_size / 1e6:,.0f} MB")
        print("asked, all indexed:")
        ask_all(talk, reader)
        reader.close()
        archive.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
