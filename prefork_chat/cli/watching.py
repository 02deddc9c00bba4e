"""What `prefork-chat top` looks at, and how it gets onto a terminal or a pipe.

Called by `top`, in the main thread of a process of its own. Attaches to the daemon once; from then
on every look is at shared memory and /proc.
"""

from __future__ import annotations

import curses
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

from prefork_chat.attachment import ATTENDANTS, PAIRS, SUPERVISOR, attach
from prefork_chat.errors import NotRunning
from prefork_chat.observing import screen
from prefork_chat.observing.report import compare
from prefork_chat.observing.snapshot import Observer

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from prefork_chat.observing.report import Report

_FIRST_SECONDS: Final = 0.1
"""Until the first picture on a terminal; its rates are of that time."""


class Watch:
    """A daemon that is watched, and how it is sorted. Owner: the command's thread."""

    def __init__(self, directory: Path, seconds: float) -> None:
        """Attach, to look every so many seconds; raises NotRunning or OperationError."""
        self._attachment: Final = attach(directory, ATTENDANTS, PAIRS)
        self._seconds: Final = seconds
        self._observer: Final = Observer.at(self._attachment)
        self._last = self._observer.take()
        self._sorting: Final = screen.Sorting()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._attachment.close()

    def as_json(self) -> str:
        """Look once; return a JSON object."""
        daemon = msgspec.to_builtins(self._attachment.daemon)
        del daemon["kind"]
        seen = {"daemon": daemon, **msgspec.to_builtins(self._wait_and_look())}
        return msgspec.json.encode(seen).decode()

    def picture(self) -> str:
        """Look once; return a picture."""
        return "\n".join(self._lines(self._wait_and_look()))

    def print_on(self) -> None:
        """Print one picture after the other, until nobody reads them any more."""
        while True:
            try:
                print(self.picture(), flush=True, end="\n\n")
            except BrokenPipeError:
                # Python would complain about it once more at the end, when it flushes.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return

    def draw(self) -> None:
        """Draw until `q` is pressed."""
        curses.wrapper(self._draw)

    def _draw(self, window: curses.window) -> None:
        try:
            curses.use_default_colors()  # the terminal's own paper
            curses.curs_set(0)
        except curses.error:
            pass  # a terminal that cannot hide it
        lines = ["..."]
        report = None
        is_helping = False
        due = time.monotonic() + min(self._seconds, _FIRST_SECONDS)
        while True:
            if time.monotonic() >= due:
                report = self._look()
                due = time.monotonic() + self._seconds
            if report is not None:
                lines = list(screen.HELP) if is_helping else self._lines(report)
            _paint(window, lines)
            window.timeout(max(0, round((due - time.monotonic()) * 1000)))
            code = window.getch()
            if code == ord("q"):
                return
            if code == ord("h"):
                is_helping = not is_helping
            elif 0 <= code <= 0xFF:  # others: no key within the time, or a new size
                self._sorting.press(chr(code))

    def _wait_and_look(self) -> Report:
        """Look when the time is over, or as soon as the daemon has ended."""
        select.select([self._attachment.descriptors[SUPERVISOR]], [], [], self._seconds)
        return self._look()

    def _look(self) -> Report:
        """Look again; raises NotRunning if the daemon has ended meanwhile."""
        if self._attachment.has_ended():
            raise NotRunning(f"the daemon in {self._attachment.daemon.runtime_dir} has ended")
        snapshot = self._observer.take()
        report = compare(self._last, snapshot)
        self._last = snapshot
        return report

    def _lines(self, report: Report) -> list[str]:
        return screen.render(report, self._attachment.daemon, self._sorting, time.time())


def can_draw() -> bool:
    """Say whether there is a terminal on which the cursor can be moved."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        curses.setupterm(os.environ.get("TERM", ""))
    except curses.error:
        return False
    return curses.tigetstr("cup") is not None


def _paint(window: curses.window, lines: list[str]) -> None:
    height, width = window.getmaxyx()
    window.erase()
    for y, line in enumerate(lines[:height]):
        try:
            window.addnstr(y, 0, line, width)
        except curses.error:
            pass  # the last place of the last line: drawn, but the cursor cannot go on
    window.refresh()
