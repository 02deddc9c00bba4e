"""What outlives a worker: a duplicate of every client's socket, so that a successor can go on.

Decides what is kept, for which session, and until when. The supervisor's only thread calls `drain`
when `fileno()` is readable, and `prepare_fork` before each fork; a child finds in `kept` what was
there then. Workers speak in the words of `keeping`. Knows nothing of a session but its slot and
generation, and takes no lock.

- Of two generations of a slot the newer one counts: its session is alive, the other one is over.
- What is said of a session that is not kept is no news: it was over before.
- Before a fork everything that a dead worker has said is read, and what nobody has claimed any
  more is let go: a worker that dies between freeing a slot and saying so leaves nothing behind.
- Letting go is `close` and nothing else. The worker has shut the socket down; if it was killed
  before, its successor will.

Descriptors are what limits it: beyond `limit` clients are served like all others, but end with
their worker. That is said once, and again only after there has been room in between.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from prefork_chat import keeping
from prefork_chat.keeping import NO_FD, Give, Keep, LetGo
from prefork_chat.log import KEEPER_FILLED, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prefork_chat.pairs import Pair
    from prefork_chat.supervisor.store import Store

# Datagrams read in one go, before the supervisor looks at anything else.
_TURN: Final = 512
# The kernel charges more than this for the smallest datagram (its struct sk_buff alone has 232).
_CHARGE_BYTES: Final = 256
# Share of the limit below which there is room again.
_ROOM: Final = 0.9


class Keeper:
    """The kept sockets. Owner: the supervisor's thread.

    `fileno()` is readable when `drain` has something to do. `limit`: the most it keeps.
    `has_filled`: the limit has been met and `report` has not said so yet.
    """

    def __init__(
        self, pair: Pair, nurseries: Sequence[Pair], limit: int, store: Store | None = None
    ) -> None:
        """Keep up to `limit` sockets; workers speak into `pair`, `nurseries` has one for each.

        `store` is told what comes and goes.
        """
        self._entries: dict[int, tuple[int, int]] = {}  # slot: (generation, descriptor)
        self._undelivered: dict[int, deque[tuple[int, int]]] = {}  # p_id: (slot, generation)
        self._outlet: Final = pair.outlet
        self._store: Final = store
        self._nurseries: Final = nurseries
        self.limit: Final = limit
        self.has_filled = False
        self._is_full = False
        queued_bytes = pair.inlet.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._most_queued: Final = queued_bytes // _CHARGE_BYTES + 1
        # An epoll of its own, so that the supervisor's loop polls one descriptor whatever waits.
        self._epoll: Final = select.epoll()
        self._epoll.register(pair.outlet, select.EPOLLIN)
        self._log: Final = get_logger()

    @property
    def kept(self) -> Mapping[int, tuple[int, int]]:
        """What is kept, by slot: (generation, descriptor)."""
        return self._entries

    @property
    def undelivered(self) -> list[tuple[int, int, int]]:
        """What has been given and does not fit into its nursery yet: (p_id, slot, generation)."""
        return [
            (p_id, slot, generation)
            for p_id, queue in self._undelivered.items()
            for slot, generation in queue
        ]

    def resume(
        self, kept: Mapping[int, tuple[int, int]], undelivered: Iterable[tuple[int, int, int]]
    ) -> None:
        """Go on with what another keeper of these pairs has kept and has not delivered."""
        self._entries.update(kept)
        for p_id, slot, generation in undelivered:
            self._give(slot, generation, p_id)

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._epoll.fileno()

    def drain(self) -> None:
        """Do what the workers have said, or the oldest part of it; never waits, never logs.

        May be called where signals come in: a handler that interrupts a write to a terminal for
        ever (`stty tostop`) is why it must not log.
        """
        self._read(_TURN)
        self._deliver()

    def report(self) -> None:
        """Log that the limit has been met, once."""
        if self.has_filled:
            self.has_filled = False
            self._log.warning(
                KEEPER_FILLED,
                kept=self.limit,
                meaning="clients that come now end with their worker (see `ulimit -n`)",
            )

    def prepare_fork(self, generations: memoryview[int]) -> None:
        """Do all that was said up to now, and let go of every session that is over.

        `generations[slot]` is g while the slot's g-th session has it (`Registry.generations`). What
        living workers say meanwhile may be left, so that they cannot hold the fork up.
        """
        self._read(self._most_queued)
        over = [
            slot
            for slot, (generation, _) in self._entries.items()
            if generations[slot] != generation
        ]
        for slot in over:
            self._close(slot)

    def close_in_child(self) -> None:
        """Close what is the supervisor's alone; what is kept belongs to the worker now."""
        self._epoll.close()
        self._outlet.close()

    def close(self) -> None:
        """Let go of everything. The pairs stay open."""
        for slot in list(self._entries):
            self._close(slot)
        self._epoll.close()

    def _read(self, most: int) -> None:
        for _ in range(most):
            try:
                words = keeping.receive(self._outlet)
            except BlockingIOError:
                return
            for word in words:
                self._obey(word)

    def _obey(self, word: keeping.Word) -> None:
        match word:
            case Keep(slot, generation, fd):
                self._keep(slot, generation, fd)
            case LetGo(slot, generation):
                if self._holds(slot, generation):
                    self._close(slot)
            case Give(slot, generation, p_id):
                self._give(slot, generation, p_id)

    def _keep(self, slot: int, generation: int, fd: int) -> None:
        if slot in self._entries:
            if self._entries[slot][0] >= generation:
                _close_fd(fd)
                return
            self._close(slot)
        if fd == NO_FD or len(self._entries) >= self.limit:
            _close_fd(fd)
            self.has_filled = self.has_filled or not self._is_full
            self._is_full = True
            return
        self._entries[slot] = (generation, fd)
        if self._store is not None:
            self._store.keep(slot, generation, fd)

    def _holds(self, slot: int, generation: int) -> bool:
        return slot in self._entries and self._entries[slot][0] == generation

    def _close(self, slot: int) -> None:
        generation, fd = self._entries.pop(slot)
        if self._store is not None:
            self._store.let_go(slot, generation)
        os.close(fd)
        if self._is_full and len(self._entries) < self.limit * _ROOM:
            self._is_full = False

    def _give(self, slot: int, generation: int, p_id: int) -> None:
        if not self._holds(slot, generation):
            return
        if p_id not in self._undelivered:
            self._undelivered[p_id] = deque()
            self._epoll.register(self._nurseries[p_id].inlet, select.EPOLLOUT)
        self._undelivered[p_id].append((slot, generation))

    def _deliver(self) -> None:
        """Fill the nurseries; who has got all is not waited for any more."""
        for p_id in list(self._undelivered):
            queue = self._undelivered[p_id]
            inlet = self._nurseries[p_id].inlet
            try:
                while queue:
                    slot, generation = queue[0]
                    if self._holds(slot, generation):
                        keeping.deliver(inlet, slot, generation, self._entries[slot][1])
                    queue.popleft()
            except BlockingIOError:
                continue  # there will be an EPOLLOUT
            del self._undelivered[p_id]
            self._epoll.unregister(inlet)


def _close_fd(fd: int) -> None:
    if fd != NO_FD:
        os.close(fd)
