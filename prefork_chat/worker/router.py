"""The router of a worker: from its parent-level pair to the thread-level pairs of its loops.

Runs in the thread that has the lead and opens nothing: the first byte of a datagram names the
loop, and several for the same loop go on as one. It never blocks on a loop: when a thread-level
pair is full, what is in hand waits for room and the rest waits, bounded, in the parent-level pair;
every loop always takes what its pair holds, so the wait ends, or the watchdog ends the worker.
"""

from __future__ import annotations

import os
import select
import socket
from time import monotonic
from typing import TYPE_CHECKING

from prefork_chat.protocol.envelope import SECTION_BYTES, merge
from prefork_chat.worker.counters import follow_peeks
from prefork_chat.worker.loop import INBOX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.pairs import Pair
    from prefork_chat.worker.loop import Loop

MOST_DATAGRAMS = 64
"""Taken in hand at once."""

MOST_BATCHES = 16
"""Forwarded in one turn: more than a pair holds, so that what has come goes on in this round."""


class Router:
    """Forwards from `source.outlet` to the inlets of `targets`, the loops' pairs; a `Station`.

    If `is_exact`, datagrams are peeked at, forwarded and then consumed: whoever is killed in
    between has a successor that forwards them again, and loops know a number that they had.
    """

    def __init__(
        self,
        source: Pair,
        targets: tuple[Pair, ...],
        loops: Sequence[Loop],
        beat_seconds: float,
        *,
        is_exact: bool,
    ) -> None:
        self._loops = loops
        self._beat_seconds = beat_seconds
        self._poller = select.epoll()
        self._source = source.outlet
        self._flags = socket.MSG_PEEK if is_exact else 0
        self._targets = [pair.inlet.fileno() for pair in targets]
        self._in_hand: list[bytes] = []
        self._peeked = 0
        self._awaited = -1
        self.turn_at = monotonic()
        follow_peeks(self._source)
        self._poller.register(self._source, select.EPOLLIN)

    @property
    def is_over(self) -> bool:
        """True when all loops are: there is nobody to forward to."""
        return all(loop.is_over for loop in self._loops)

    @property
    def is_late(self) -> bool:
        """True when it has had no turn for longer than it should (any thread)."""
        return monotonic() > self.turn_at + self._beat_seconds

    def fileno(self) -> int:
        """Return the descriptor that is readable while there is something to forward."""
        return self._poller.fileno()

    def take_turn(self) -> bool:
        """Forward what is there, as far as there is room; True if there was something."""
        batches = 0
        while batches < MOST_BATCHES and self._forward():
            batches += 1
        self.turn_at = monotonic() + self._beat_seconds
        return batches > 0

    def _forward(self) -> bool:
        """Forward a batch; False: there is none, or no room."""
        if not self._in_hand:
            self._in_hand = merge(self._take())
            if not self._in_hand:
                return False
        while self._in_hand:
            datagram = self._in_hand[0]
            target = self._targets[datagram[0]]
            try:
                os.write(target, datagram)
            except BlockingIOError:
                self._await(target)
                return False
            del self._in_hand[0]
        for _ in range(self._peeked):
            os.read(self._source.fileno(), 1)
        self._peeked = 0
        self._await(-1)
        return True

    def _take(self) -> list[bytes]:
        datagrams: list[bytes] = []
        size = 0
        while len(datagrams) < MOST_DATAGRAMS and size < SECTION_BYTES:
            try:
                datagrams.append(self._source.recv(INBOX_BYTES, self._flags))
            except BlockingIOError:
                break
            size += len(datagrams[-1])
        if self._flags:
            self._peeked = len(datagrams)
        return datagrams

    def _await(self, target: int) -> None:
        """Wait for room in the pair `target`, or, when it is -1, for datagrams."""
        if target == self._awaited:
            return
        self._poller.unregister(self._source if self._awaited < 0 else self._awaited)
        if target < 0:
            self._poller.register(self._source, select.EPOLLIN)
        else:
            self._poller.register(target, select.EPOLLOUT)
        self._awaited = target
