"""People with accounts who talk as fast as the daemon confirms, for `questions`.

Each with IN_FLIGHT messages to random others under way; nine words each, of which a
few are in every other message and most are rare. And some who say a few words first, and then hold
still. Runs in a process of its own, so that who asks meanwhile does not wait for it.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

PASSWORD: Final = "correct horse"
QUIET: Final = 20
IN_FLIGHT: Final = 32
CHUNKS: Final = 50
"""Of IN_FLIGHT messages each, that one of them says over and over."""

VOCABULARY: Final = 20_000
WORDS: Final = 9
ANSWER_SECONDS: Final = 30.0
READ_BYTES: Final = 1 << 17


def person(number: int) -> str:
    """Return somebody's name."""
    return f"user{number}"


def word(chance: random.Random) -> str:
    """Return a word."""
    return f"word{int(VOCABULARY * chance.random() ** 4)}"


class Line:
    """A connection to the daemon, as lines."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(ANSWER_SECONDS)
        self.socket: Final = connection
        self._rest = b""

    def ask(self, question: str, endings: tuple[bytes, ...]) -> None:
        """Send a line, and read until one that begins like this has come."""
        self.socket.sendall(question.encode() + b"\n")
        while not any(line.startswith(endings) for line in self.read()):
            pass

    def read(self) -> list[bytes]:
        """Wait for something and return what has come; raises ConnectionError, also for ERR."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise ConnectionError("disconnected")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"ERR "):
                raise ConnectionError(line.decode())
        return lines

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


class _Talker:
    """Somebody who talks; `awaited` receipts have yet to come."""

    def __init__(self, line: Line, chunks: Sequence[bytes]) -> None:
        self._line: Final = line
        self._chunks: Final = chunks
        self._said = 0
        self.awaited = 0

    def say(self) -> None:
        self._line.socket.sendall(self._chunks[self._said % len(self._chunks)])
        self._said += 1
        self.awaited = IN_FLIGHT

    def listen(self) -> int:
        """Read what is there; return how many receipts have come."""
        came = sum(line.startswith(b"OK CHAT ") for line in self._line.read())
        self.awaited -= came
        return came


def talk(host: str, port: int, people: int, seed: int, pipe: Connection) -> None:
    """Come, and say so; then, as often as a number comes, have so many messages stored.

    Says each time how many it were and how many seconds it took; ends when the pipe is closed.
    """
    chance = random.Random(seed)
    names = [person(number) for number in range(people)]
    lines = [_come(host, port, name) for name in names]
    quiet = [_come(host, port, person(people + number)) for number in range(QUIET)]
    for line in quiet:
        line.ask(f"CHAT {names[0]} {word(chance)}", (b"OK CHAT ",))
    talkers = {
        line.socket.fileno(): _Talker(line, [_chunk(names, chance) for _ in range(CHUNKS)])
        for line in lines
    }
    pipe.send(None)
    with contextlib.suppress(EOFError):
        while True:
            rows = pipe.recv()
            started = time.monotonic()
            stored = _have_stored(talkers, rows)
            pipe.send((stored, time.monotonic() - started))


def _come(host: str, port: int, name: str) -> Line:
    line = Line(socket.create_connection((host, port)))
    line.ask(f"JOIN {name}", (b"OK JOIN ",))
    line.ask(f"PASS {PASSWORD}", (b"OK PASS",))
    return line


def _chunk(names: Sequence[str], chance: random.Random) -> bytes:
    said = (" ".join(word(chance) for _ in range(WORDS)) for _ in range(IN_FLIGHT))
    return "".join(f"CHAT {chance.choice(names)} {words}\n" for words in said).encode()


def _have_stored(talkers: dict[int, _Talker], rows: int) -> int:
    """Let them talk until so many messages have been confirmed; return how many."""
    epoll = select.epoll()
    for fd, talker in talkers.items():
        epoll.register(fd, select.EPOLLIN)
        talker.say()
    said, confirmed = IN_FLIGHT * len(talkers), 0
    while confirmed < said:
        ready = epoll.poll(ANSWER_SECONDS)
        if not ready:
            raise TimeoutError("no receipt came")
        for fd, _ in ready:
            talker = talkers[fd]
            confirmed += talker.listen()
            if not talker.awaited and said < rows:
                talker.say()
                said += IN_FLIGHT
    epoll.close()
    return confirmed
