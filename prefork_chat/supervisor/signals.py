"""How signals reach the supervisor's loop: as a set to be read, at one place, and never in between.

The signals below are blocked in the supervisor except inside `delivered()`, which it holds around
its poll. So no system call elsewhere is interrupted, nothing is logged or decided in a handler, and
a fork happens with signals blocked whatever comes (unblocked, 60 of 60 SIGTERMs right after a fork
were lost). A handler adds to the set, and `signal.set_wakeup_fd` makes the poll return, also for a
signal that comes just before it. A set cannot overflow: of a burst every kind is kept.

Blocked rather than merely handled for one more reason: a background process that catches SIGTTOU
and writes to a terminal with `stty tostop` would be interrupted for ever.

Used by the supervisor's only thread; `reset_in_child` by a forked child, before anything else. Must
not be used where another thread runs.
"""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object] | int | None

STOP: Final = frozenset({signal.SIGTERM, signal.SIGINT})
# Come to the whole foreground group, or from `pkill` meant for the supervisor: workers ignore them.
IGNORED_BY_WORKERS: Final = frozenset(
    {
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTTIN,
        signal.SIGTTOU,
    }
)
HANDLED: Final = STOP | IGNORED_BY_WORKERS | {signal.SIGCHLD}


class SignalInbox:
    """The signals that came and were not taken yet; a context manager around the daemon's life.

    Owner: the supervisor's thread. `fileno()` is readable when there is something to `take`.
    """

    def __init__(self) -> None:
        self._received: set[signal.Signals] = set()
        self._wakeup, self._woken = socket.socketpair()
        for end in (self._wakeup, self._woken):
            end.setblocking(False)
        self._old_mask: set[int] = set()
        self._old_handlers: dict[signal.Signals, Handler] = {}
        self._old_wakeup_fd = -1

    def __enter__(self) -> Self:
        self._old_mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED))
        for number in HANDLED:
            self._old_handlers[number] = signal.signal(number, self._receive)
        self._old_wakeup_fd = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        """Put everything back as it was; what came meanwhile and was not taken is dropped."""
        with self.delivered():
            pass
        signal.set_wakeup_fd(self._old_wakeup_fd)
        for number, handler in self._old_handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
        self._close()

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._woken.fileno()

    @contextmanager
    def delivered(self) -> Iterator[None]:
        """Let signals in while the block runs; their handlers have run when it ends."""
        # One by one: let in together, their frames pile up on the stack, and where faulthandler has
        # put an alternate one (python -X dev) the fifth overflowed it and crashed CPython 3.11.
        for number in HANDLED & signal.sigpending():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def take(self) -> set[signal.Signals]:
        """Return the signals that came since the last call, and forget them."""
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass  # drained
        taken, self._received = self._received, set()
        return taken

    def reset_in_child(self) -> None:
        """Make a forked child deaf to what is the supervisor's, and then let signals in.

        SIGTERM and SIGCHLD get their default action, so a SIGTERM that came since the fork ends the
        child here; what is meant for the supervisor is ignored. The wake-up descriptor goes first:
        an inherited one wakes the parent.
        """
        signal.set_wakeup_fd(-1)
        self._close()
        for number in HANDLED:
            is_ignored = number in IGNORED_BY_WORKERS
            signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._received.add(signal.Signals(number))

    def _close(self) -> None:
        self._wakeup.close()
        self._woken.close()
