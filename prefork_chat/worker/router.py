"""The router of a worker: from its parent-level pair to the thread-level pairs of its loops.

Runs in the worker's main thread, and forwards datagrams unopened: the first byte names the loop.
It never blocks on a loop: when a thread-level pair is full, the one datagram in hand waits for
room and the rest waits, bounded, in the parent-level pair; every loop always takes what its pair
holds, so the wait ends, or the watchdog ends the worker.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from prefork_chat.worker.loop import INBOX_BYTES

if TYPE_CHECKING:
    from prefork_chat.pairs import Pair

MOST_DATAGRAMS = 64
"""Forwarded before the router looks at its other events again."""


class Router:
    """Forwards from `source.outlet` to the inlets of `targets`, by t_id (main thread only)."""

    def __init__(self, source: Pair, targets: tuple[Pair, ...], poller: select.epoll) -> None:
        self._poller = poller
        self._source = source.outlet.fileno()
        self._targets = [pair.inlet.fileno() for pair in targets]
        self._in_hand: bytes | None = None
        poller.register(self._source, select.EPOLLIN)

    def owns(self, fd: int) -> bool:
        """Say whether an event of the poller on `fd` is for `forward`."""
        return fd == self._source or fd in self._targets

    def forward(self) -> None:
        """Forward what is there; call it whenever one of our descriptors is ready."""
        if self._in_hand is not None and not self._retry(self._in_hand):
            return
        for _ in range(MOST_DATAGRAMS):
            try:
                datagram = os.read(self._source, INBOX_BYTES)
            except BlockingIOError:
                return
            try:
                os.write(self._targets[datagram[0]], datagram)
            except BlockingIOError:
                self._wait_for_room(datagram)
                return

    def _wait_for_room(self, datagram: bytes) -> None:
        self._in_hand = datagram
        self._poller.unregister(self._source)
        self._poller.register(self._targets[datagram[0]], select.EPOLLOUT)

    def _retry(self, datagram: bytes) -> bool:
        target = self._targets[datagram[0]]
        try:
            os.write(target, datagram)
        except BlockingIOError:
            return False
        self._in_hand = None
        self._poller.unregister(target)
        self._poller.register(self._source, select.EPOLLIN)
        return True
