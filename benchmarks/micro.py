"""Microbenchmarks by pyperf of what every line goes through: codec, envelope, registry.

A program of its own, `python -m benchmarks.micro -o FILE`, because pyperf starts it again for every
process that it measures in. `measure` runs it and reads the file. Each benchmark works on what a
busy turn works on: 32 lines of 64 bytes of text, a registry with 1,000 names.
"""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.build import ROOT
from benchmarks.results import Micro
from prefork_chat.protocol.decoder import Decoder
from prefork_chat.protocol.envelope import Origin, merge, pack_datagram, pack_messages, parse_line
from prefork_chat.registry.ipc import Semaphore, SharedMemory
from prefork_chat.registry.layout import Layout
from prefork_chat.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINES: Final = 32
NAMES: Final = 1000
_TEXT: Final = b"x" * 64
_WORDS: Final = [b"CHAT client%d %s" % (n, _TEXT) for n in range(LINES)]
_CHUNK: Final = b"".join(line + b"\n" for line in _WORDS)
_ORIGIN: Final = Origin(0, 0, 7, 1, is_quiet=True, is_registered=False, name=b"alice")


class MicroError(Exception):
    """The microbenchmarks could not be run; the text says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """`work` is one turn's share; it deals with `count` of `per`."""

    name: str
    per: str
    count: int
    work: Callable[[], object]


def is_possible() -> bool:
    """Whether pyperf is here."""
    return importlib.util.find_spec("pyperf") is not None


def measure(*, is_quick: bool) -> list[Micro]:
    """Run this module as pyperf likes it and return what it found. Raises MicroError."""
    import pyperf  # noqa: PLC0415 - an extra

    effort = ["--processes", "2", "--values", "2"] if is_quick else ["--processes", "4"]
    with tempfile.TemporaryDirectory(prefix="prefork-chat-benchmark-") as folder:
        file = Path(folder) / "micro.json"
        command = [sys.executable, "-m", "benchmarks.micro", "--quiet", *effort, "-o", str(file)]
        environment = "--inherit-environ=PYTHONPATH"
        done = subprocess.run(
            [*command, environment],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise MicroError(done.stderr.strip() or f"exit code {done.returncode}")
        suite = pyperf.BenchmarkSuite.load(str(file))
    return [_micro(each) for each in suite.get_benchmarks()]


def _micro(found: Any) -> Micro:
    name, per = found.get_name().split(" / ")
    return Micro(name, per, found.mean() * 1e9, found.stdev() * 1e9)


def _benches(registry: Registry) -> Iterator[Bench]:
    datagram = pack_datagram(0, 1, 1, [pack_messages(_ORIGIN, _WORDS)])
    keys = [b"client%d" % n for n in range(NAMES)]
    random.Random(1).shuffle(keys)
    some = keys[:LINES]
    yield Bench("codec: cut and clean a chunk", "line", LINES, lambda: Decoder(1).feed(_CHUNK))
    yield Bench("codec: a line that comes in two reads", "line", 1, _feed_halves)
    yield Bench(
        "envelope: pack a section and its datagram",
        "message",
        LINES,
        lambda: pack_datagram(0, 1, 1, [pack_messages(_ORIGIN, _WORDS)]),
    )
    yield Bench("envelope: open it again", "message", LINES, lambda: _open(datagram))
    yield Bench("envelope: merge 8 datagrams", "datagram", 8, lambda: merge([datagram] * 8))
    yield Bench(
        "registry: look a name up", "name", LINES, lambda: [registry.check(key) for key in some]
    )
    yield Bench("registry: look up who is not there", "name", 1, lambda: registry.check(b"nobody"))
    yield Bench("registry: claim, enter, free", "session", 1, lambda: _come_and_go(registry))


def _feed_halves() -> None:
    decoder = Decoder(1)
    decoder.feed(b"CHAT client7 " + _TEXT[:32])
    decoder.feed(_TEXT[32:] + b"\n")


def _open(datagram: bytes) -> None:
    for section in datagram[1:].split(b"\x1e")[1:]:
        header, *lines = section.split(b"\n")
        Origin.parse(header)
        for line in lines:
            parse_line(line)


def _come_and_go(registry: Registry) -> None:
    slot, generation = registry.claim(0, 0)
    registry.enter(slot, generation, b"visitor", b"visitor")
    registry.free(slot, generation)


def _run() -> None:
    import pyperf  # noqa: PLC0415 - an extra

    runner = pyperf.Runner()
    runner.parse_args()  # ends here if they are wrong: nothing is made yet
    key = int.from_bytes(os.urandom(4), "little") % 0x7FFF_FFFE + 1
    shape = Layout(capacity=2 * NAMES, workers=1, threads=1, rooms=1)
    memory = SharedMemory.create(f"/prefork-chat-micro-{key:x}", shape.total_bytes)
    semaphore = Semaphore.create(key, 1)
    try:
        registry = Registry.create(memory, semaphore, shape)
        registry.table.begin(0, 1, 1)
        for number in range(NAMES):
            name = b"client%d" % number
            registry.enter(*registry.claim(0, 0), name, name)
        for bench in _benches(registry):
            title = f"{bench.name} / {bench.per}"
            runner.bench_func(title, bench.work, inner_loops=bench.count)
        registry.close()
    finally:
        memory.close()
        semaphore.remove()


if __name__ == "__main__":
    _run()
