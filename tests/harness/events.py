"""The daemon's log as a test sees it: events to wait for, and what must not be there at the end.

A thread takes every line of the daemon's stderr as it comes and keeps it; all processes of a daemon
write there, so the end of the stream says that none of them lives any more.
"""

from __future__ import annotations

import json
import re
import threading
from typing import IO, TYPE_CHECKING, Any, Final

from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Event = dict[str, Any]
"""A line of the log: `event`, `level`, `pid`, and what the event is about."""

_QUIET_LEVELS: Final = frozenset({"debug", "info"})


class EventLog:
    """What a daemon has logged so far. Any thread may ask; a thread of its own reads the stream."""

    def __init__(self, stream: IO[bytes], copy: IO[bytes]) -> None:
        """Read `stream` until its end, and write all of it into the file `copy` too."""
        self._stream: Final = stream
        self._copy: Final = copy
        self._events: list[Event] = []
        self._by_name: dict[str, list[Event]] = {}
        self._text: list[str] = []
        self._expected: set[str] = set()
        self._expected_text: list[re.Pattern[str]] = []
        self._has_ended = False
        self._news: Final = threading.Condition()
        self._reader: Final = threading.Thread(target=self._read, name="event-log", daemon=True)
        self._reader.start()

    def events(self, event: str, **fields: object) -> list[Event]:
        """Return the lines of `event` so far in which all `fields` have these values."""
        with self._news:
            named = self._by_name.get(event, [])
            return [found for found in named if _matches(found, fields)]

    def wait_for(
        self, event: str, count: int = 1, seconds: float = PATIENCE_SECONDS, **fields: object
    ) -> Event:
        """Wait until `event` with `fields` has come `count` times in all; return the last."""
        found: list[Event] = []

        def has_come() -> bool:
            found[:] = self.events(event, **fields)
            return len(found) >= count or self._has_ended

        self._wait(has_come, f"{count} x {event} {fields}", seconds)
        assert len(found) >= count, f"the log ended without {count} x {event} {fields}:\n{self}"
        return found[count - 1]

    def follow(self, event: str, seconds: float = PATIENCE_SECONDS) -> Iterator[Event]:
        """Yield the lines of `event`, those to come included, until the log ends.

        Fails when there is no line of any kind for so many seconds.
        """
        seen = 0
        while True:
            with self._news:
                self._wait(lambda: len(self._events) > seen or self._has_ended, event, seconds)  # noqa: B023
                fresh, seen = self._events[seen:], len(self._events)
            if not fresh:
                return
            yield from (found for found in fresh if found["event"] == event)

    @property
    def has_ended(self) -> bool:
        """Say whether no process has the log open any more."""
        with self._news:
            return self._has_ended

    @property
    def all_events(self) -> list[Event]:
        """All lines so far that are events."""
        with self._news:
            return list(self._events)

    @property
    def text(self) -> list[str]:
        """All lines so far that are no events."""
        with self._news:
            return list(self._text)

    def wait_for_text(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait for a line that is no event (a stack dump) and contains `pattern`; return it."""
        search = re.compile(pattern).search
        found: list[str] = []

        def has_come() -> bool:
            found[:] = [line for line in self._text if search(line)]
            return bool(found)

        self._wait(has_come, f"text {pattern!r}", seconds)
        return found[0]

    def wait_for_end(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until no process has the log open any more."""
        self._wait(lambda: self._has_ended, "the end of the log", seconds)

    def expect(self, *events: str) -> None:
        """Say that warnings and errors of these events are what this test is about."""
        self._expected.update(events)

    def expect_text(self, pattern: str) -> None:
        """Say that lines that are no events may come if they contain `pattern`."""
        self._expected_text.append(re.compile(pattern))

    def complaints(self) -> list[str]:
        """Return warnings, errors and tracebacks that no test has said it expects."""
        with self._news:
            events = [
                json.dumps(event)
                for event in self._events
                if event["level"] not in _QUIET_LEVELS and event["event"] not in self._expected
            ]
            texts = [
                line
                for line in self._text
                if not any(pattern.search(line) for pattern in self._expected_text)
            ]
        return events + texts

    def close(self) -> None:
        """Let go of the stream, which has ended."""
        self._reader.join(PATIENCE_SECONDS)
        self._stream.close()
        self._copy.close()

    def __str__(self) -> str:
        """The last lines, for the message of a failure."""
        return "\n".join([*map(json.dumps, self._events[-40:]), *self._text[-60:]])

    def _read(self) -> None:
        for raw in self._stream:
            self._copy.write(raw)
            line = raw.decode("utf-8", "backslashreplace").rstrip("\n")
            with self._news:
                self._keep(line)
                self._news.notify_all()
        self._copy.flush()
        with self._news:
            self._has_ended = True
            self._news.notify_all()

    def _keep(self, line: str) -> None:
        try:
            event = json.loads(line) if line.startswith("{") else None
        except ValueError:
            event = None
        if event is None:
            self._text.append(line)
        else:
            self._events.append(event)
            self._by_name.setdefault(event["event"], []).append(event)

    def _wait(self, is_so: Callable[[], bool], what: str, seconds: float) -> None:
        with self._news:
            if not self._news.wait_for(is_so, seconds):
                raise AssertionError(f"waited {seconds} s in vain for {what}:\n{self}")


def _matches(found: Event, fields: dict[str, object]) -> bool:
    return all(found.get(key) == value for key, value in fields.items())
