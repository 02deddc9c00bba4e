"""Waiting for a carrier without an event loop: for scripts and the line mode.

A step connects if that is due, waits for the socket, for others' descriptors or for the next
deadline, and carries. While it connects, nothing else happens; scripts have nothing else to do.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from prefork_chat.terminal.carrier import connect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_chat.terminal.carrier import Carrier


def step(
    carrier: Carrier, others: Iterable[int] = (), most_seconds: float | None = None
) -> set[int]:
    """Wait until something can be done, and do it; return which of `others` can be read.

    Waits no longer than `most_seconds`, if that is given, and not at all while there are events
    that nobody has taken.
    """
    if carrier.must_connect:
        try:
            carrier.begin(connect(carrier.address))
        except OSError as error:
            carrier.fail(error)
        return set()
    carrier.carry()
    if carrier.conversation.is_over or carrier.conversation.has_news:
        return set()  # the caller may have nothing to wait for any more
    poll = select.poll()
    for fd in others:
        poll.register(fd, select.POLLIN)
    own = -1
    if carrier.connection is not None:
        own = carrier.connection.fileno()
        poll.register(own, select.POLLIN | (select.POLLOUT if carrier.has_unsent else 0))
    wait = min((s for s in (carrier.wait_seconds(), most_seconds) if s is not None), default=None)
    ready = poll.poll(None if wait is None else wait * 1000 + 1)
    carrier.carry()
    return {fd for fd, _ in ready if fd != own}
