"""Somebody's own history, asked from the running daemon and written down line by line.

The database belongs to the daemon, and nobody else can open it; so who wants his transcript asks
for it as a client would (`READ`, `HIST`), and gets what is his. By a password, or on a Unix socket
by being who he is on this machine. Nobody sees him, not in a room either, and what waits for him
goes on waiting.

Runs in the command; blocks. Raises NoServer, or SendError with the server's own words.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from prefork_chat.errors import NoServer, SendError, UsageError
from prefork_chat.protocol.text import clean
from prefork_chat.terminal.carrier import connect, why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from prefork_chat.addresses import Address

PAGE_LINES: Final = 200
"""The most that one HIST is answered with."""

ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Line:
    """One message: its number in the history, when (UTC, ISO 8601), from whom, to whom."""

    id: int
    time: str
    sender: str
    recipient: str
    text: str


class Teller:
    """A connection to the daemon on which somebody has shown who he is. A context manager."""

    def __init__(self, address: Address, name: str, password: str) -> None:
        """Connect, and show who asks. Raises NoServer or SendError."""
        try:
            self._socket = connect(address)
        except OSError as error:
            raise NoServer(f"{address}: {why(error)}") from error
        self._socket.settimeout(ANSWER_SECONDS)
        self._stream = self._socket.makefile("rb")
        self._address: Final = address
        try:
            self._expect_greeting()
            self._ask(" ".join(filter(None, ("READ", name, password))))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave and hang up."""
        self._stream.close()
        self._socket.close()

    def lines(self, about: str, since: str) -> list[Line]:
        """Return all messages with, or in, `about` (empty: all), from the time `since` on."""
        pages: list[list[Line]] = []
        before = ""
        while True:
            words = ("HIST", about, str(PAGE_LINES), before)
            page, has_more = self._page(" ".join(filter(None, words)))
            pages.append([line for line in page if line.time >= since])
            if not has_more or not page or page[0].time < since:
                return [line for page in reversed(pages) for line in page]
            before = f"before={page[0].id}"

    def _expect_greeting(self) -> None:
        greeting = self._read()
        if not greeting.startswith("OK HELO prefork-chat/"):
            raise NoServer(f"{self._address}: this is no prefork-chat: {greeting[:60]}")

    def _page(self, question: str) -> tuple[list[Line], bool]:
        *rows, end = self._ask(question)
        lines = []
        for row in rows:
            id_, time, sender, recipient, text = row.removeprefix("DATA HIST ").split(" ", 4)
            lines.append(Line(int(id_), time, sender, recipient, text))
        return lines, end.endswith(" more=1")

    def _ask(self, line: str) -> list[str]:
        """Send a command; return its answer, the `OK` last."""
        verb = line.split(" ", 1)[0]
        try:
            self._socket.sendall(line.encode() + b"\n")
        except OSError as error:
            raise NoServer(f"{self._address}: {why(error)}") from error
        answer = []
        while True:
            said = self._read()
            if said.startswith(f"ERR {verb} "):
                raise SendError(said.split(" ", 3)[3])
            if said.startswith((f"DATA {verb} ", f"OK {verb}")):
                answer.append(said)
            if said.startswith(f"OK {verb}"):
                return answer

    def _read(self) -> str:
        try:
            line = self._stream.readline()
        except OSError as error:
            raise NoServer(f"{self._address}: {why(error)}") from error
        if not line.endswith(b"\n"):
            raise NoServer(f"{self._address}: the server has hung up")
        return clean(line[:-1]).decode("utf-8", "replace")


def parse_since(text: str) -> str:
    """Return a time as the history tells it: of a date or a time, UTC unless it says otherwise.

    Raises UsageError.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--since: {text!r} is no time such as 2026-11-21T16:30") from error
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_text(line: Line) -> str:
    """Return a message as a line to read and to grep: time first."""
    return f"{line.time} {line.sender} -> {line.recipient}: {line.text}"


def as_json(line: Line) -> str:
    """Return a message as a line of JSON."""
    return json.dumps(asdict(line), ensure_ascii=False)


FORMATS: Final[dict[str, Callable[[Line], str]]] = {"text": as_text, "jsonl": as_json}


def open_private(path: str) -> IO[str]:
    """Open a file to write that nobody else may read, also if it was there. Raises UsageError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.fchmod(fd, 0o600)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return os.fdopen(fd, "w", encoding="utf-8")


def told(lines: list[Line], form: str) -> Iterator[str]:
    """Give the lines of a transcript, with their ends."""
    return (FORMATS[form](line) + "\n" for line in lines)
