"""Waiting for a carrier in the event loop of prompt_toolkit, which is asyncio's.

The loop's thread carries; a thread of its own makes each connection, because looking up a host's
name cannot be done without waiting. That thread is a daemon: who quits does not wait for it.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefork_chat.terminal.carrier import connect

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from prefork_chat.terminal.carrier import Carrier


@contextmanager
def terminal_may_go() -> Iterator[None]:
    """Take the end of the terminal (a window that is closed, ssh that breaks) for a good-bye."""
    try:
        yield
    except EOFError:
        pass
    except OSError as error:
        if error.errno != errno.EIO:
            raise


class Looping:
    """Carries whenever something can be done, and calls `show` afterwards."""

    def __init__(self, carrier: Carrier, show: Callable[[], None]) -> None:
        """Prepare; `start` is to be called in the loop. `show` may look at the conversation."""
        self._carrier = carrier
        self._show = show
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watched: socket.socket | None = None
        self._fd = -1  # of what is watched; it may have been closed since
        self._wants_room = False
        self._is_connecting = False

    def start(self) -> None:
        """Begin; returns at once."""
        self._loop = asyncio.get_running_loop()
        self.go_on()

    def stop(self) -> None:
        """End; the connection is closed."""
        self._watch(None)
        if self._timer is not None:
            self._timer.cancel()
        self._carrier.close("")

    def go_on(self) -> None:
        """Do what can be done now: after each key that may have said something, and each event."""
        assert self._loop is not None
        if self._carrier.must_connect and not self._is_connecting:
            self._is_connecting = True
            threading.Thread(target=self._connect, args=(self._loop,), daemon=True).start()
        self._carrier.carry()
        self._watch(self._carrier.connection)
        if self._timer is not None:
            self._timer.cancel()
        wait = None if self._is_connecting else self._carrier.wait_seconds()
        self._timer = None if wait is None else self._loop.call_later(wait, self.go_on)
        self._show()

    def _watch(self, connection: socket.socket | None) -> None:
        """Be told when there is something to read, and, if needed, room to write."""
        assert self._loop is not None
        if connection is not self._watched:
            if self._watched is not None:
                self._loop.remove_reader(self._fd)
                self._loop.remove_writer(self._fd)
            self._wants_room = False
            if connection is not None:
                self._fd = connection.fileno()
                self._loop.add_reader(self._fd, self.go_on)
            self._watched = connection
        if connection is not None and self._carrier.has_unsent is not self._wants_room:
            self._wants_room = self._carrier.has_unsent
            if self._wants_room:
                self._loop.add_writer(self._fd, self.go_on)
            else:
                self._loop.remove_writer(self._fd)

    def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make a connection; in a thread of its own."""
        made: socket.socket | OSError
        try:
            made = connect(self._carrier.address)
        except OSError as error:
            made = error
        try:
            loop.call_soon_threadsafe(self._connected, made)
        except RuntimeError:  # the loop has ended meanwhile
            if not isinstance(made, OSError):
                made.close()

    def _connected(self, made: socket.socket | OSError) -> None:
        self._is_connecting = False
        if isinstance(made, OSError):
            self._carrier.fail(made)
        elif self._carrier.conversation.is_over:
            made.close()
        else:
            self._carrier.begin(made)
        self.go_on()
