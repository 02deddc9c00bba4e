"""The six mechanisms by name, and how a channel of any of them is opened, listed and cleaned up.

Called by the command. What is common to all is decided here: the ledger is asked first, whatever
the mechanism; a dead server's leftovers are removed by the next one; only one client reads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prefork_chat.channels import (
    fifo,
    names,
    pipe,
    posix_queue,
    shared_memory,
    sysv_queue,
    unix_socket,
)
from prefork_chat.channels.errors import ChannelError, ChannelTaken, NoServer, StaleObject
from prefork_chat.channels.key import Key
from prefork_chat.channels.ledger import Ledger, default_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefork_chat.channels.channel import Receiver, Sender
    from prefork_chat.channels.ledger import Entry

_RETRY_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Mechanism:
    """How one mechanism opens its ends. `takes_strangers`: a server need not be in the ledger."""

    summary: str
    serve: Callable[[Key, Entry], Sender]
    connect: Callable[[Key, Any], Receiver]
    remove_objects: Callable[[Entry], None]
    takes_strangers: bool = False


MECHANISMS: Final[dict[str, Mechanism]] = {
    names.PIPE: Mechanism("anonymous pipe", pipe.serve, pipe.connect, pipe.remove_objects),
    names.FIFO: Mechanism("FIFO (named pipe)", fifo.serve, fifo.connect, fifo.remove_objects),
    names.POSIX_QUEUE: Mechanism(
        "POSIX message queue", posix_queue.serve, posix_queue.connect, posix_queue.remove_objects
    ),
    names.SYSV_QUEUE: Mechanism(
        "System V message queue",
        sysv_queue.serve,
        sysv_queue.connect,
        sysv_queue.remove_objects,
        takes_strangers=True,
    ),
    names.SHARED_MEMORY: Mechanism(
        "System V shared memory",
        shared_memory.serve,
        shared_memory.connect,
        shared_memory.remove_objects,
        takes_strangers=True,
    ),
    names.SOCKET: Mechanism(
        "Unix socket", unix_socket.serve, unix_socket.connect, unix_socket.remove_objects
    ),
}


def serve(mechanism: str, key_path: Path, directory: Path | None = None) -> Sender:
    """Make a channel and become its server. Raises ChannelError and its kinds."""
    how = MECHANISMS[mechanism]
    key = Key.of(key_path)
    ledger = Ledger(directory or default_directory())
    entry = ledger.register(mechanism, key, how.remove_objects)
    try:
        return how.serve(key, entry)
    except BaseException:
        entry.remove()
        raise


def connect(
    mechanism: str, key_path: Path, directory: Path | None = None, wait_seconds: float = 0
) -> Receiver:
    """Open a channel that somebody serves, waiting up to `wait_seconds` for a server.

    Raises NoServer, StaleObject, ChannelTaken, NotPermitted and other ChannelErrors.
    """
    key = Key.of(key_path)
    ledger = Ledger(directory or default_directory())
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return _connect(mechanism, key, ledger)
        except (NoServer, StaleObject) as error:
            if time.monotonic() >= deadline:
                message = f"{mechanism} channel of {key.path}: {error}"
                raise type(error)(message) from error
        time.sleep(_RETRY_SECONDS)


def _connect(mechanism: str, key: Key, ledger: Ledger) -> Receiver:
    how = MECHANISMS[mechanism]
    entry = ledger.find(mechanism, key)
    if entry is None:
        if not how.takes_strangers:
            raise NoServer("no server")
        return how.connect(key, None)
    try:
        _check(entry, key)
        _claim(entry, f"{mechanism} channel of {key.path}")
        receiver = how.connect(key, entry)
        entry.come()
    except BaseException:
        entry.close()
        raise
    return receiver


def _check(entry: Entry, key: Key) -> None:
    """Raise StaleObject or NoServer unless the entry is that of a living server of this key."""
    if not entry.is_server_alive():
        raise StaleObject(
            f"its server (pid {entry.server_pid}) is dead; "
            "`prefork-chat ipc clean`, or the next server, removes what it left"
        )
    if not _is_same_file(entry.key_path, key):
        raise NoServer(f"no server, but one of {entry.key_path}, which has the same key")


def _claim(entry: Entry, what: str) -> None:
    try:
        entry.claim()
    except ChannelTaken as error:
        raise ChannelTaken(f"{what}: {error}") from error


def _is_same_file(path: str, key: Key) -> bool:
    if path == str(key.path):
        return True
    try:
        return key.path.samefile(path)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the list."""

    mechanism: str
    number: int
    key_path: str
    server_pid: int
    reader_pid: int
    is_leftover: bool


def list_channels(directory: Path | None = None) -> Iterator[Listed]:
    """Tell all channels of this user, those of the living and what the dead left."""
    for entry in Ledger(directory or default_directory()).entries():
        listed = Listed(
            entry.mechanism,
            entry.number,
            entry.key_path,
            entry.server_pid,
            entry.reader_pid if entry.is_reader_alive() else 0,
            not entry.is_server_alive(),
        )
        entry.close()
        yield listed


def clean(directory: Path | None = None) -> Iterator[tuple[Listed, ChannelError | None]]:
    """Remove what dead servers of this user left; tell what, and what could not be removed."""
    ledger = Ledger(directory or default_directory())
    for entry in ledger.entries():
        how = MECHANISMS.get(entry.mechanism)
        listed = Listed(
            entry.mechanism, entry.number, entry.key_path, entry.server_pid, 0, is_leftover=True
        )
        if how is None:
            entry.close()
            continue
        try:
            if ledger.try_remove(entry, how.remove_objects):
                yield listed, None
        except ChannelError as error:
            yield listed, error
