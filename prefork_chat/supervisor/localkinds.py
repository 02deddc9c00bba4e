"""The kinds of objects that other programs find by a name: how each is made, known and removed.

Used by `local` only, in the supervisor's thread. An *identity* tells an object from others that
have, or will have, its name: id and key of a System V object, device and inode of a file. The key
is in it because nobody can derive it any more once the file that it was made from has gone.

Raises ChannelError and OSError.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.board import layout
from prefork_chat.channels import posix, sysv
from prefork_chat.channels.errors import NoServer
from prefork_chat.channels.key import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

Identity: TypeAlias = tuple[int, ...]

BOARD: Final = "board"
KEY_FILE: Final = "key-file"
FIFO: Final = "fifo"
SYSV_QUEUE: Final = "sysv-queue"
POSIX_QUEUE: Final = "posix-queue"

_QUEUE_MESSAGES: Final = 10  # mq_overview(7): what any user may have
_MESSAGE_BYTES: Final = 1024
"""Longest message of a POSIX queue: the longest line of the protocol."""
_MOST_WAITING: Final = 10_000


@dataclass(frozen=True, slots=True)
class Kind:
    """`make` returns the identity, `look` that of what has the name now, None if nothing has.

    `remove` removes an object; False if it was gone, or somebody else's has its name. `permit` sets
    mode, uid and gid; -1: as it is.
    """

    make: Callable[[str], Identity]
    look: Callable[[str], Identity | None]
    remove: Callable[[str, Identity], bool]
    permit: Callable[[str, int, int, int], None]


def _make_file(path: str) -> Identity:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    return _require(_look_at_file(path))


def _make_fifo(path: str) -> Identity:
    os.mkfifo(path, 0o600)
    return _require(_look_at_file(path))


def _look_at_file(path: str) -> Identity | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _remove_file(path: str, identity: Identity) -> bool:
    if _look_at_file(path) != identity:
        return False
    os.unlink(path)
    return True


def _permit_file(path: str, mode: int, uid: int, gid: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fchmod(fd, mode)
        os.fchown(fd, uid, gid)
    finally:
        os.close(fd)


def _make_board(path: str) -> Identity:
    memory = sysv.SysvMemory.create(board_key(path), layout.SIZE_BYTES)
    memory.close()
    return memory.id, board_key(path)


def _look_at_board(path: str) -> Identity | None:
    try:
        memory = sysv.SysvMemory.open(board_key(path))
    except NoServer:
        return None
    memory.close()
    return memory.id, board_key(path)


def _permit_board(path: str, mode: int, uid: int, gid: int) -> None:
    memory = sysv.SysvMemory.open(board_key(path))
    try:
        memory.permit(mode, uid, gid)
    finally:
        memory.close()


def _remove_board(_path: str, identity: Identity) -> bool:
    made_id, key = identity
    return sysv.remove_sysv("memory", key, made_id)


def _make_sysv_queue(path: str) -> Identity:
    key = queue_key(path)
    return sysv.SysvQueue.create(key, _MESSAGE_BYTES).id, key


def _look_at_sysv_queue(path: str) -> Identity | None:
    try:
        key = queue_key(path)
        return sysv.SysvQueue.open(key, _MESSAGE_BYTES).id, key
    except (FileNotFoundError, NoServer):
        return None


def _permit_sysv_queue(path: str, mode: int, uid: int, gid: int) -> None:
    sysv.SysvQueue.open(queue_key(path), _MESSAGE_BYTES).permit(mode, uid, gid)


def _remove_sysv_queue(_path: str, identity: Identity) -> bool:
    made_id, key = identity
    return sysv.remove_sysv("queue", key, made_id)


def _make_posix_queue(name: str) -> Identity:
    queue = posix.PosixQueue.create(name, _QUEUE_MESSAGES, _MESSAGE_BYTES, _MESSAGE_BYTES)
    return _identity_of(queue)


def _look_at_posix_queue(name: str) -> Identity | None:
    try:
        return _identity_of(posix.PosixQueue.open(name))
    except NoServer:
        return None


def _identity_of(queue: posix.PosixQueue) -> Identity:
    status = os.fstat(queue.fd)
    queue.close()
    return status.st_dev, status.st_ino


def _permit_posix_queue(name: str, mode: int, uid: int, gid: int) -> None:
    queue = posix.PosixQueue.open(name)
    try:
        queue.permit(mode, uid, gid)
    finally:
        queue.close()


def _remove_posix_queue(name: str, identity: Identity) -> bool:
    """Remove it, and let those go who wait for room in it: its end would not wake them."""
    if _look_at_posix_queue(name) != identity:
        return False
    queue = posix.PosixQueue.open(name)
    posix.remove_posix_queue(name)
    for _ in range(_MOST_WAITING):
        if queue.take() is None:
            break
    queue.close()
    return True


def board_key(directory: str) -> int:
    """Return the key of the board of a runtime directory."""
    return sysv.system_v_key(Path(directory), layout.PROJECT)


def queue_key(path: str) -> int:
    """Return the key of a System V queue by its key file."""
    return sysv.system_v_key(Path(path), PROJECT)


def _require(identity: Identity | None) -> Identity:
    if identity is None:
        raise FileNotFoundError("somebody has removed it at once")
    return identity


KINDS: Final = {
    BOARD: Kind(_make_board, _look_at_board, _remove_board, _permit_board),
    KEY_FILE: Kind(_make_file, _look_at_file, _remove_file, _permit_file),
    FIFO: Kind(_make_fifo, _look_at_file, _remove_file, _permit_file),
    SYSV_QUEUE: Kind(_make_sysv_queue, _look_at_sysv_queue, _remove_sysv_queue, _permit_sysv_queue),
    POSIX_QUEUE: Kind(
        _make_posix_queue, _look_at_posix_queue, _remove_posix_queue, _permit_posix_queue
    ),
}
