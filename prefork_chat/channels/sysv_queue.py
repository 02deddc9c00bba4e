"""The System V message queue (sysvipc(7)) of key ftok(PATH, 'P'); C programs can take either end.

Each of its messages is a part (`parts`); its type says what it is:

    struct { long type; char body[8192]; };
    type 1  a message, or its last part        type 3  the end of the stream (body: nothing)
    type 2  a part, of which more follow       type 4  hello: pass over it (body: nothing)

A message has up to 65,536 bytes, a part up to `kernel.msgmax`. Read with msgtyp 0, in order. The
server says hello at once, so that the queue tells its pid (`msg_lspid`), removes the queue when the
client has taken the end, and takes a client that died (`msg_lrpid`) for gone. A server in C does
the same: msgget(IPC_CREAT | IPC_EXCL), hello, parts, end, and IPC_RMID once `msg_qnum` is 0.

    for (;;) {                                 /* the whole reader in C */
        ssize_t n = msgrcv(queue, &part, sizeof part.body, 0, 0);
        if (n < 0 || part.type == 3) break;
        if (part.type != 4) fwrite(part.body, 1, n, stdout);
    }
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.channels import parts
from prefork_chat.channels.channel import MAX_MESSAGE_BYTES, Mark, Receiver, Sender
from prefork_chat.channels.errors import NoServer, ObjectRemoved, PeerGone, StaleObject
from prefork_chat.channels.process import has_lived_since
from prefork_chat.channels.sysv import SysvQueue, remove_sysv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.channels.key import Key
    from prefork_chat.channels.ledger import Entry

_LOOK_SECONDS: Final = 0.002  # nothing can be waited for that is "empty", or "read by somebody"
_DEFAULT_PART_BYTES: Final = 8192


class SysvQueueSender(Sender):
    """Owns the queue."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._entry = entry
        self._queue = SysvQueue.create(entry.number, _part_bytes())
        self._is_open = True
        entry.note(queue=self._queue.id)
        self._queue.put(memoryview(b""), parts.HELLO, 0)

    def is_peer_alive(self) -> bool:
        """Ask the ledger; of a client that is not in it, the queue."""
        if self._entry.reader_pid:
            return self._entry.is_reader_alive()
        pid, moment = self._queue.last_take
        return pid == 0 or has_lived_since(pid, moment)

    def close(self) -> None:
        """Remove the queue."""
        if self._is_open:
            self._is_open = False
            self._queue.remove()
            self._entry.remove()

    def _parts(self, message: bytes) -> Sequence[bytes]:
        return parts.cut(message, self._queue.part_bytes)

    def _end(self) -> Sequence[bytes]:
        return (b"%c" % parts.END,)

    def _put(self, seconds: float) -> int:
        part = self._rest[0]
        return len(part) if self._queue.put(part[1:], part[0], seconds) else 0

    def _has_client(self, seconds: float) -> bool:
        if self._entry.reader_pid or self._queue.last_take[0]:
            return True
        time.sleep(min(seconds, _LOOK_SECONDS))
        return False

    def _is_drained(self, seconds: float) -> bool:
        if self._queue.count == 0:
            return True
        time.sleep(min(seconds, _LOOK_SECONDS))
        return False


class SysvQueueReceiver(Receiver):
    """Reads somebody's queue; `entry` is None if the ledger does not know its server."""

    def __init__(self, number: int, entry: Entry | None) -> None:
        super().__init__()
        self._entry = entry
        self._queue = SysvQueue.open(number, _part_bytes())
        self._joiner = parts.Joiner()

    def is_peer_alive(self) -> bool:
        """Ask the ledger, or else the queue."""
        if self._entry is not None:
            return self._entry.is_server_alive()
        try:
            return self.server_pid() != 0
        except ObjectRemoved:
            return False

    def server_pid(self) -> int:
        """Return the process that wrote last; 0 if it is dead, or nobody did."""
        pid, moment = self._queue.last_put
        return pid if pid and has_lived_since(pid, moment) else 0

    def close(self) -> None:
        """Let go of the queue."""
        if self._entry is not None:
            self._entry.close()

    def _take(self, seconds: float) -> bytes | Mark:
        message: bytes | Mark = Mark.NOTHING
        while message is Mark.NOTHING:
            try:
                part = self._queue.take(seconds)
            except ObjectRemoved as error:
                raise PeerGone("the server has gone before the end of the stream") from error
            if part is None:
                return Mark.NOTHING
            message = self._joiner.add(part[1], part[0])
        return message


def serve(_: Key, entry: Entry) -> SysvQueueSender:
    """Make the queue."""
    return SysvQueueSender(entry)


def connect(key: Key, entry: Entry | None) -> SysvQueueReceiver:
    """Open the queue. Raises StaleObject if a server of somebody's is dead."""
    try:
        receiver = SysvQueueReceiver(key.number, entry)
    except NoServer as error:
        raise NoServer("its server is not ready" if entry else str(error)) from error
    if entry is None and not receiver.server_pid():
        raise StaleObject(
            f"System V queue 0x{key.name} has no server and is none of ours: "
            f"if you know it, ipcrm -Q 0x{key.name}"
        )
    return receiver


def remove_objects(entry: Entry) -> None:
    """Remove the queue of a dead server."""
    if entry.is_of_this_boot():
        remove_sysv("queue", entry.number, entry.made_id("queue"))


def _part_bytes() -> int:
    """Return the longest part: the system's limit, or that of a message."""
    try:
        limit = int(Path("/proc/sys/kernel/msgmax").read_text(encoding="ascii"))
    except (OSError, ValueError):
        limit = _DEFAULT_PART_BYTES
    return min(limit, MAX_MESSAGE_BYTES)
