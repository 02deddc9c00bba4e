"""The porter's process from its fork to its end: one poll loop over everything that it looks after.

`run` is called in the child, once; its result is the exit code. SIGTERM means: take no more, say
what has been taken, take leave, exit 0; it is given FAREWELL_SECONDS for that. It also ends when
the supervisor is gone. Nothing that others write or do makes it fail; if it fails all the same, or
is killed, its successor goes on: with what is still in the FIFOs and queues, with the counters of
the board. What a kill loses is what had been taken and not yet been written to a connection: one
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
from prefork_chat.channels.errors import ChannelError
from prefork_chat.config import resolve_state_dir
from prefork_chat.log import BOARD_FAILED, get_logger
from prefork_chat.observing.exposition import expose
from prefork_chat.observing.snapshot import Observer
from prefork_chat.porter.ingress import Ingress
from prefork_chat.porter.tally import Tally
from prefork_chat.porter.web import Web
from prefork_chat.registry.table import ORDER, Order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import FrameType

    from prefork_chat.config import Config
    from prefork_chat.registry.registry import Registry

FAREWELL_SECONDS: Final = 2.0
"""To say what has been taken, at the end."""

BOARD_SECONDS: Final = 1.0
_LONGEST_SLEEP_SECONDS: Final = 1.0


class Porter:
    """All that the porter looks after. Owner: its only thread."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        registry: Registry,
        inlets: Mapping[str, int],
        fifos: Mapping[str, int],
    ) -> None:
        """`directory`: the runtime directory; `inlets`: of the pairs, by name; `fifos`: by path."""
        self._registry: Final = registry
        self._directory: Final = directory
        self._state_dir: Final = resolve_state_dir(config)
        self._log: Final = get_logger()
        self._supervisor_pid: Final = os.getppid()
        self._observer: Final = Observer(registry, self._supervisor_pid, inlets)
        self._ways_in: Final = [
            Ingress(ingress, directory, fifos.get(ingress.path)) for ingress in config.ingress
        ]
        self._web: Final = (
            Web(parse_address(config.metrics.listen), self._page) if config.metrics.listen else None
        )
        self._board: Board | None = None
        self._tally = Tally(None)
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

    def wake_at(self, now: float) -> float:
        """Return when there is something to do by itself (monotonic seconds)."""
        due = [now + _LONGEST_SLEEP_SECONDS, *(ingress.wake_at(now) for ingress in self._ways_in)]
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
                self._board, before = Board.open_to_write(key_of(self._directory))
                self._tally = Tally(before)
            self._board.write(
                self._tally.content(
                    self._observer.take(),
                    self._supervisor_pid,
                    time.time_ns(),
                    bulletin.read(self._state_dir, "notice"),
                    bulletin.read(self._state_dir, "broadcast"),
                )
            )
        except ChannelError as error:
            self._log.error(BOARD_FAILED, reason=str(error))
            self._wants_board = False  # somebody has removed it


def run(porter: Porter, supervisor_pidfd: int) -> int:
    """Turn until SIGTERM, or until the supervisor is gone; return the exit code."""
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    is_told = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_told
        is_told = True

    signal.signal(signal.SIGTERM, note)
    finish_by = float("inf")
    while True:
        now = time.monotonic()
        if is_told and finish_by == float("inf"):
            finish_by = now + FAREWELL_SECONDS
            porter.finish()
        porter.turn(now)
        if is_told and (porter.is_finished() or now >= finish_by):
            porter.close()
            return 0
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(supervisor_pidfd, select.POLLIN)
        porter.register(poll)
        wake_at = min(porter.wake_at(now), finish_by)
        ready = poll.poll(max(0.0, wake_at - time.monotonic()) * 1000)
        if any(fd == supervisor_pidfd for fd, _ in ready):
            return 1
        if any(fd == woken.fileno() for fd, _ in ready):
            woken.recv(64)
