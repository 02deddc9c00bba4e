"""The porter's process from its fork to its end: one poll loop over everything that it looks after.

`run_porter` is called in the child, once; its result is the exit code. SIGTERM means: take no more,
say what has been taken, take leave, exit 0; it is given FAREWELL_SECONDS for that. It also ends
when the supervisor is gone. Nothing that others write or do makes it fail; if it fails all the
same, or is killed, its successor goes on: with what is still in the FIFOs and queues, with the sums
of the board. What a kill loses is what had been taken and not yet been written to a connection: one
message of a queue, or one read of a FIFO (4 KiB), for some microseconds; with `lines_per_second`
the rest of that read until its turn.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

from prefork_chat import __version__, bulletin
from prefork_chat.addresses import parse_address
from prefork_chat.board.board import Board, key_of
from prefork_chat.channels.errors import ChannelError, ObjectTaken
from prefork_chat.config import resolve_state_dir
from prefork_chat.log import BOARD_FAILED, get_logger
from prefork_chat.observing.exposition import expose
from prefork_chat.observing.snapshot import Observer
from prefork_chat.porter.ingress import Ingress
from prefork_chat.porter.tally import Tally
from prefork_chat.porter.web import Web
from prefork_chat.registry.table import (
    HEARTBEAT,
    ORDER,
    ROUTER_HEARTBEAT,
    STATE,
    Order,
    WorkerState,
    loop_offset,
)

if TYPE_CHECKING:
    from types import FrameType

    from prefork_chat.config import Config
    from prefork_chat.inheritance import Attendance
    from prefork_chat.pairs import Pairs

FAREWELL_SECONDS: Final = 2.0
"""To say what has been taken, at the end."""

BOARD_SECONDS: Final = 1.0
_LONGEST_SLEEP_SECONDS: Final = 1.0
_BEATS: Final = 4  # of an idle porter in the time that the watchdog gives it
_EXIT_ORPHANED: Final = 1


class Porter:
    """All that the porter looks after. Owner: its only thread."""

    def __init__(self, attendance: Attendance) -> None:
        """Open nothing yet."""
        config, registry = attendance.config, attendance.registry
        directory = attendance.runtime_dir
        self._registry: Final = registry
        self._directory: Final = directory
        self._state_dir: Final = resolve_state_dir(config)
        self._log: Final = get_logger()
        self._supervisor_pid: Final = os.getppid()
        self._observer: Final = Observer(registry, self._supervisor_pid, _inlets(attendance.pairs))
        self._ways_in: Final = [Ingress(ingress, directory) for ingress in config.ingress]
        self._web: Final = (
            Web(parse_address(config.metrics.listen), self._page) if config.metrics.listen else None
        )
        self._board: Board | None = None
        self._tally = Tally(None, self._supervisor_pid)
        self._wants_board = config.board.enabled
        self._board_at = 0.0

    def turn(self, now: float) -> None:
        """Do all that can be done now."""
        if self._is_draining():
            self._leave()
        for ingress in self._ways_in:
            ingress.advance(now)
        if self._web is not None:
            self._web.advance(now)
        if self._wants_board and now >= self._board_at:
            self._board_at = now + BOARD_SECONDS
            self._show()

    def register(self, poll: select.poll) -> None:
        """Tell what is to be waited for."""
        for ingress in self._ways_in:
            if ingress.fd is not None:
                poll.register(ingress.fd, select.POLLIN)
            speaker = ingress.speaker
            if speaker.fd is not None:
                writing = select.POLLOUT if speaker.wants_to_write else 0
                poll.register(speaker.fd, select.POLLIN | writing)
        if self._web is not None:
            for fd in self._web.readable():
                poll.register(fd, select.POLLIN)
            for fd in self._web.writable():
                poll.register(fd, select.POLLOUT)

    def wake_at(self) -> float:
        """Return when there is something to do by itself (monotonic seconds)."""
        now = time.monotonic()
        due = [float("inf"), *(ingress.wake_at(now) for ingress in self._ways_in)]
        if self._web is not None:
            due.append(self._web.wake_at())
        if self._wants_board:
            due.append(self._board_at)
        return min(due)

    def finish(self) -> None:
        """Take no more; say what has been taken."""
        for ingress in self._ways_in:
            ingress.finish()

    def is_finished(self) -> bool:
        """Say whether everything has been said that was taken."""
        return all(ingress.speaker.is_gone for ingress in self._ways_in)

    def close(self) -> None:
        """Let go of everything."""
        for ingress in self._ways_in:
            ingress.speaker.close()
            ingress.close_source()
        if self._web is not None:
            self._web.close()
        if self._board is not None:
            self._board.close()

    def _is_draining(self) -> bool:
        """Say whether the daemon waits for its clients to leave, and so for ours."""
        table = self._registry.table
        return any(table.row(p_id)[ORDER] == Order.DRAIN for p_id in range(table.workers))

    def _leave(self) -> None:
        for ingress in self._ways_in:
            ingress.finish()

    def _page(self) -> str:
        counts = [ingress.counts for ingress in self._ways_in]
        return expose(self._observer.take(), __version__, counts)

    def _show(self) -> None:
        """Bring the board up to date."""
        try:
            if self._board is None:
                self._board, before = Board.open_to_write(
                    key_of(self._directory), self._supervisor_pid
                )
                self._tally = Tally(before, self._supervisor_pid)
            self._board.write(
                self._tally.content(
                    self._observer.take(),
                    time.time_ns(),
                    bulletin.read(self._state_dir, "notice"),
                    bulletin.read(self._state_dir, "broadcast"),
                )
            )
        except ObjectTaken:
            self._wants_board = False  # the supervisor has said so
        except ChannelError as error:
            self._log.error(BOARD_FAILED, reason=str(error))
            self._wants_board = False  # somebody has removed it


def is_wanted(config: Config) -> bool:
    """Say whether there is anything to look after."""
    return bool(config.board.enabled or config.ingress or config.metrics.listen)


def run_porter(attendance: Attendance) -> int:
    """Be the porter until told to end, or until the supervisor is gone; return the exit code."""
    bell = _Bell()
    porter = Porter(attendance)
    row = attendance.row
    row[STATE] = WorkerState.READY
    os.eventfd_write(attendance.news, 1)
    sleep_seconds = min(_LONGEST_SLEEP_SECONDS, attendance.config.server.watchdog_seconds / _BEATS)
    finish_by: float | None = None
    while True:
        now = time.monotonic()
        row[ROUTER_HEARTBEAT] = row[loop_offset(0) + HEARTBEAT] = time.monotonic_ns()
        if bell.has_rung and finish_by is None:
            finish_by = now + FAREWELL_SECONDS
            porter.finish()
        porter.turn(now)
        if finish_by is not None and (porter.is_finished() or now >= finish_by):
            porter.close()
            return 0
        poll = select.poll()
        poll.register(bell.fileno(), select.POLLIN)
        poll.register(attendance.supervisor_pidfd, select.POLLIN)
        porter.register(poll)
        wake_at = min(porter.wake_at(), now + sleep_seconds, finish_by or now + sleep_seconds)
        ready = dict(poll.poll(max(0.0, wake_at - time.monotonic()) * 1000))
        if attendance.supervisor_pidfd in ready:
            return _EXIT_ORPHANED
        if bell.fileno() in ready:
            bell.hush()


class _Bell:
    """Wakes the poll when SIGTERM comes. Owner: the main thread."""

    def __init__(self) -> None:
        self.has_rung = False
        self._outlet, self._inlet = socket.socketpair()
        for end in (self._outlet, self._inlet):
            end.setblocking(False)
        signal.set_wakeup_fd(self._inlet.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._ring)

    def fileno(self) -> int:
        """Return what is readable once it has rung."""
        return self._outlet.fileno()

    def hush(self) -> None:
        """Be ready to wake again."""
        self._outlet.recv(64)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        self.has_rung = True


def _inlets(pairs: Pairs) -> dict[str, int]:
    """Return the inlets of the workers' pairs by the names that they have for whoever looks on."""
    found = {f"process.{p_id}": pair.inlet.fileno() for p_id, pair in enumerate(pairs.processes)}
    for p_id, loops in enumerate(pairs.loops):
        found |= {f"loop.{p_id}.{t_id}": pair.inlet.fileno() for t_id, pair in enumerate(loops)}
    return found
