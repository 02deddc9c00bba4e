"""The registry as a program sees it that only looks on: all that can be read, nothing else.

Used by commands that have been handed a descriptor of the registry's memory. The memory is mapped
for reading, so a store would be a fault of this process and no harm to the daemon; and there is no
write semaphore, so nobody waits for whoever looks on. What changes anything raises ReadOnly.

A miss in doubt, which the daemon's own processes clear up at the semaphore, is only looked at
again: after a writer that was killed the index stays torn until the next one comes, and until then
somebody who is here may not be found by name. The slots tell the truth all along.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NoReturn

from prefork_chat.registry.ipc import Semaphore
from prefork_chat.registry.layout import SEQUENCE
from prefork_chat.registry.registry import Registry

if TYPE_CHECKING:
    from prefork_chat.registry.ipc import SharedMemory
    from prefork_chat.registry.sessions import Location

_ATTEMPTS: Final = 100
_PAUSE_SECONDS: Final = 0.001  # a writer needs a few microseconds, a repair of 20,000 slots 5 ms


class ReadOnly(Exception):  # noqa: N818 - says what is the case
    """What was called would change a registry that we only look at."""


class RegistryView(Registry):
    """A registry to be read in any thread of a process that is not the daemon's."""

    __slots__ = ()

    def __init__(self, memory: SharedMemory) -> None:
        """Attach to memory mapped for reading; StartError if it is of another version."""
        super().__init__(memory, _NoSemaphore())

    def check(self, key: bytes) -> Location | None:
        """Where the session of `key` is, or None; looks for up to 0.1 s if in doubt."""
        tag = self._index.tag(key)
        for _ in range(_ATTEMPTS):
            sequence = self._header[SEQUENCE]
            location = self._look_up(tag, key)
            if location is not None or (sequence == self._header[SEQUENCE] and not sequence & 1):
                return location
            time.sleep(_PAUSE_SECONDS)
        return None

    def writer_pid(self) -> int:
        """Raise ReadOnly: nobody who looks on can tell."""
        raise ReadOnly


class _NoSemaphore(Semaphore):
    """Stands where the write semaphore would be."""

    __slots__ = ()

    def __init__(self) -> None:
        """Open nothing."""

    def acquire(self) -> NoReturn:
        """Raise ReadOnly."""
        raise ReadOnly
