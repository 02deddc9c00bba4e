"""What systemd holds for us: descriptors that outlive a supervisor that is killed, by name.

Decides what is stored (sd_pid_notify_with_fds(3), `FileDescriptorStoreMax=`), in which order, and
how many: at the start all that does not change, then the *deed*, then clients as the keeper gets
and loses them. A next supervisor gets all of it at its start and goes on, see `reviving`. Called by
the supervisor's only thread; a child closes the deed and never speaks.

- The deed comes last: if it is there, so is all that it names. Cut to no bytes it says that the
  daemon has ended in order: that holds at once, whatever systemd still has of the rest.
- Storing costs systemd more for each that it has already, hence `limit`. Clients beyond it are
  served like all others, but end with the supervisor. That is said once.
- Nothing here waits but `begin` and `close`, and not for long. What systemd has no room for in its
  queue now is sent later. If it does not listen, nothing is stored any more, and that is said.
"""

from __future__ import annotations

import errno
import os
import re
import time
from typing import TYPE_CHECKING, Final

import msgspec

from prefork_chat.log import STORE_FAILED, STORE_FILLED, get_logger
from prefork_chat.supervisor import deed as deeds
from prefork_chat.supervisor.children import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prefork_chat.supervisor.deed import Deed
    from prefork_chat.supervisor.notify import Notifier, PassedFd

_PREFIX: Final = "estate."
DEED: Final = "deed"
_CLIENT: Final = re.compile(r"c([0-9]+)\.([0-9]+)")
# systemd reads its queue as fast as we fill it: seconds mean that it does not read at all.
_BEGIN_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0
_RETRY_NS: Final = NANOSECONDS // 100
_PAUSE_SECONDS: Final = 0.001
_LATER: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS})


def stored_name(name: str) -> str:
    """Return the name in systemd's store of what is `name` in the estate."""
    return _PREFIX + name


def estate_name(stored: str) -> str | None:
    """Return the estate's name of what is stored so; None for a client's or a stranger's."""
    return stored.removeprefix(_PREFIX) if stored.startswith(_PREFIX) else None


def stored_client(slot: int, generation: int) -> str:
    """Return the name in systemd's store of a client; short, for all share one variable."""
    return f"c{slot}.{generation}"


def client_of(stored: str) -> tuple[int, int] | None:
    """Return (slot, generation) of what is stored so; None if it is not a client."""
    found = _CLIENT.fullmatch(stored)
    return None if found is None else (int(found[1]), int(found[2]))


def is_stored(passed: PassedFd) -> bool:
    """Say whether a descriptor that systemd passes is one that a supervisor has stored."""
    return estate_name(passed.name) is not None or client_of(passed.name) is not None


class Store:
    """Our part of systemd's store. Owner: the supervisor's thread.

    `limit`: the most descriptors in it, 0 if there is none. `deed_fd`: the deed's, None before
    `begin` or `resume`, and if nothing is stored.
    """

    def __init__(self, notifier: Notifier, most: int) -> None:
        """Store nothing yet; `most` is what the configuration allows."""
        self._notifier: Final = notifier
        self.limit: Final = min(most, notifier.store_limit)
        self.deed_fd: int | None = None
        self._fixed: list[str] = []
        self._clients: set[str] = set()  # in the store or on the way to it
        self._adding: dict[str, int] = {}
        self._removing: dict[str, None] = {}  # an ordered set
        self._is_full = False
        self._is_told = False
        self._failure = ""
        self._log: Final = get_logger()

    @property
    def names(self) -> list[str]:
        """All names that systemd has of ours now."""
        return [*self._fixed, *(self._clients - self._adding.keys()), *self._removing]

    def begin(self, deed: Deed, descriptors: Mapping[str, int]) -> None:
        """Store what does not change: `descriptors`, by the estate's names, and the deed."""
        if not self.limit:
            return
        fixed = {stored_name(name): fd for name, fd in descriptors.items()}
        if len(fixed) >= self.limit:
            self._fail(f"{len(fixed) + 1} descriptors do not fit, {self.limit} are allowed")
            return
        fd = os.memfd_create("prefork-chat-deed", os.MFD_CLOEXEC)
        os.write(fd, deeds.encode(msgspec.structs.replace(deed, stored=list(fixed))))
        fixed[stored_name(DEED)] = fd
        deadline = time.monotonic() + _BEGIN_SECONDS
        try:
            for name, each in fixed.items():
                _insist(lambda name=name, each=each: self._notifier.store(name, each), deadline)  # type: ignore[misc]
        except OSError as error:
            os.close(fd)
            self._fail(os.strerror(error.errno or 0))
            return
        self.deed_fd = fd
        self._fixed = list(fixed)

    def resume(self, deed_fd: int, stored: Iterable[str]) -> None:
        """Go on with a store that has all of `stored`, and this deed."""
        if not self.limit:
            os.close(deed_fd)
            return
        self.deed_fd = deed_fd
        for name in stored:
            if client_of(name) is None:
                self._fixed.append(name)
            else:
                self._clients.add(name)

    def match(self, kept: Mapping[int, tuple[int, int]]) -> None:
        """Store all clients that are kept, and no other."""
        wanted = {stored_client(slot, generation) for slot, (generation, _) in kept.items()}
        for name in self._clients - wanted:
            self._drop(name)
        for slot, (generation, fd) in kept.items():
            self.keep(slot, generation, fd)

    def keep(self, slot: int, generation: int, fd: int) -> None:
        """Have a client stored at the next `flush`; the descriptor stays open until `let_go`."""
        name = stored_client(slot, generation)
        if self.deed_fd is None or name in self._clients:
            return
        if len(self._fixed) + len(self._clients) >= self.limit:
            self._is_full = True
            return
        self._clients.add(name)
        self._adding[name] = fd

    def let_go(self, slot: int, generation: int) -> None:
        """Have a client removed at the next `flush`; to be called before its descriptor closes."""
        name = stored_client(slot, generation)
        if name in self._clients:
            self._drop(name)

    def flush(self) -> None:
        """Tell systemd what there is to tell, as far as it listens now; never waits nor logs."""
        try:
            while self._adding:
                name = next(iter(self._adding))
                self._notifier.store(name, self._adding[name])
                del self._adding[name]
            while self._removing:
                name = next(iter(self._removing))
                self._notifier.unstore(name)
                del self._removing[name]
        except OSError as error:
            if error.errno not in _LATER:
                self._failure = os.strerror(error.errno or 0)
                self._clients -= self._adding.keys()
                self._adding.clear()
                self._removing.clear()

    def next_flush_ns(self) -> int | None:
        """Return when there is something to `flush` again; None if all has been said."""
        if self._adding or self._removing:
            return time.monotonic_ns() + _RETRY_NS
        return None

    def report(self) -> None:
        """Log, once each, that the store is full or that systemd has not listened."""
        if self._is_full and not self._is_told:
            self._is_told = True
            self._log.warning(
                STORE_FILLED,
                stored=self.limit,
                meaning="clients that come now end with the supervisor (see server.fd_store_max)",
            )
        if self._failure:
            self._fail(self._failure)
            self._failure = ""

    def remove(self, names: Iterable[str]) -> None:
        """Remove what has been stored under these names, as far as systemd listens."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        try:
            for name in dict.fromkeys(names):
                _insist(lambda name=name: self._notifier.unstore(name), deadline)  # type: ignore[misc]
        except OSError:
            return  # nobody listens, so nobody passes it to the next one

    def close(self) -> None:
        """End in order: whatever systemd still has, no supervisor goes on with it."""
        if self.deed_fd is None:
            return
        os.ftruncate(self.deed_fd, 0)
        os.close(self.deed_fd)
        self.deed_fd = None
        self.remove([stored_name(DEED), *self.names])

    def close_in_child(self) -> None:
        """Close the deed, which is the supervisor's alone."""
        if self.deed_fd is not None:
            os.close(self.deed_fd)

    def _drop(self, name: str) -> None:
        self._clients.remove(name)
        if self._adding.pop(name, None) is None:
            self._removing[name] = None

    def _fail(self, reason: str) -> None:
        self._log.warning(
            STORE_FAILED, reason=reason, meaning="clients may end with the supervisor"
        )


def _insist(send: Callable[[], None], deadline: float) -> None:
    """Send, again and again while there is no room in systemd's queue; raises OSError."""
    while True:
        try:
            send()
        except OSError as error:
            if error.errno not in _LATER or time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
