"""What has come for a worker that has left for good: how the supervisor notices, without reading.

A worker that leaves goes when it has no session any more and nothing has come for a moment. From
then on nobody has a reason to address it: a message goes where the registry has its receiver, an
answer where it has the sender's session, and both look at the moment when they are sent; the owner
word, which caches compare, changed when the session moved. But a loop that had packed a datagram
before, and recorded it, sends it all the same: late, if it waits for room; later still, if its
worker is killed in between and the successor sends it again. Such a datagram may carry the only
copy of a message or of an answer, so somebody must send it on: a worker of that p_id is forked,
reads its pairs, sends on what is there, and leaves like the one before.

The supervisor's only thread calls `watch` when a worker has left, and `take` when `fileno()` is
readable. Nothing is read from the pairs here: they are polled, and belong to the workers.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_chat.pairs import Pairs


class Mail:
    """The pairs of workers that have left. Owner: the supervisor's thread."""

    def __init__(self, pairs: Pairs) -> None:
        """Watch nobody yet."""
        self._pairs: Final = pairs
        self._watched: Final[dict[int, int]] = {}  # descriptor of an outlet: p_id
        self._epoll: Final = select.epoll()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something has come."""
        return self._epoll.fileno()

    def watch(self, p_id: int) -> None:
        """Begin to look whether anything comes for this worker."""
        for fd in self._outlets(p_id):
            self._watched[fd] = p_id
            self._epoll.register(fd, select.EPOLLIN)

    def ignore(self, p_id: int) -> None:
        """Look no more: the worker reads for itself."""
        for fd in self._outlets(p_id):
            if self._watched.pop(fd, None) is not None:
                self._epoll.unregister(fd)

    def take(self) -> set[int]:
        """Return for whom something has come; they are watched no more."""
        p_ids = {self._watched[fd] for fd, _ in self._epoll.poll(0)}
        for p_id in p_ids:
            self.ignore(p_id)
        return p_ids

    def close(self) -> None:
        """Stop watching, also in a child; the pairs stay open."""
        self._epoll.close()

    def _outlets(self, p_id: int) -> Iterator[int]:
        yield self._pairs.processes[p_id].outlet.fileno()
        for pair in self._pairs.loops[p_id]:
            yield pair.outlet.fileno()
