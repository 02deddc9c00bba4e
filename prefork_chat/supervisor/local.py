"""What programs of this machine find of the daemon: its board, its FIFOs, its message queues.

Decides that these outlive every process of the daemon but not the daemon. The supervisor makes
them, keeps the FIFOs open, so that what was written into one waits for its reader and no writer is
cut off, and removes them at the end. Called by its only thread at the start, when another
configuration has been loaded, and at the end; who reads and writes them is a process of its own.

They have names that the operator chose, so names alone do not say whose they are. The file `local`
of the runtime directory lists each before it is made, and afterwards with its identity. So the next
supervisor, whatever killed the last one, goes on with those that it wants too, with all that waits
in them, and removes the rest. Of what is listed and had not been made yet it takes whatever is
there for ours: nothing was there right before.

    [{"kind": ..., "path": ..., "identity": [...] or null}, ...]        JSON
"""

from __future__ import annotations

import grp
import json
import os
import pwd
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from prefork_chat.channels.errors import ChannelError
from prefork_chat.errors import StartError
from prefork_chat.log import BOARD_FAILED, LEFTOVER_KEPT, LEFTOVER_REMOVED, get_logger
from prefork_chat.supervisor.localkinds import BOARD, FIFO, KEY_FILE, KINDS, SYSV_QUEUE, Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_chat.config import Config
    from prefork_chat.supervisor.runtime import RuntimeDirectory

LIST_FILE: Final = "local"
_NEW_LIST_FILE: Final = "local.new"
_SAME: Final = -1  # chown(2): as it is
_KEY_MODE: Final = 0o644


class LocalObject(Struct, frozen=True):
    """One object; `identity` is None while it is being made."""

    kind: str
    path: str
    identity: Identity | None = None

    def find(self) -> Identity | None:
        """Return its identity; None if it is gone, or something else has its name now."""
        identity = KINDS[self.kind].look(self.path)
        return identity if self.identity in {None, identity} else None

    def remove(self) -> bool:
        """Remove it; False if it was gone."""
        identity = self.identity or self.find()
        return identity is not None and KINDS[self.kind].remove(self.path, identity)


class LocalObjects:
    """All of them. Owner: the supervisor's thread."""

    def __init__(self, runtime: RuntimeDirectory) -> None:
        """Read what is listed; nothing is touched."""
        self._runtime: Final = runtime
        self._log: Final = get_logger()
        self._listed: Final = {(each.kind, each.path): each for each in self._read()}
        self._fifos: Final[dict[str, int]] = {}

    def put_up(self, config: Config) -> None:
        """Make what the configuration wants and is not there, remove what it does not want.

        Raises StartError: something is in the way of an object, or it cannot be had. Nothing has
        been removed then; the last configuration puts things right again.
        """
        wanted = self._wanted(config)
        for kind, path in wanted:
            with _told(kind, path):
                if kind == BOARD and self._is_taken(kind, path):
                    continue
                self._put_up(kind, path)
                KINDS[kind].permit(path, *wanted[kind, path])
                if kind == FIFO and path not in self._fifos:
                    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
                    self._fifos[path] = os.open(path, flags)
        for name in [name for name in reversed(self._listed) if name not in wanted]:
            if self._remove(name):
                self._log.info(LEFTOVER_REMOVED, kind=name[0], name=name[1])

    def remove(self) -> None:
        """Remove them all, and the list."""
        for name in reversed(list(self._listed)):
            self._remove(name)
        self.close()
        for file in (LIST_FILE, _NEW_LIST_FILE):
            try:
                os.unlink(file, dir_fd=self._runtime.fd)
            except FileNotFoundError:
                pass  # nothing was ever made

    def close(self) -> None:
        """Close the FIFOs in this process."""
        for fd in self._fifos.values():
            os.close(fd)
        self._fifos.clear()

    def _wanted(self, config: Config) -> dict[tuple[str, str], tuple[int, int, int]]:
        """Return what is to be there, with mode, uid and gid."""
        wanted = {}
        if config.board.enabled:
            mode = int(config.board.mode, 8)
            wanted[BOARD, str(self._runtime.path)] = (mode, _SAME, _SAME)
        for ingress in config.ingress:
            key_file = (KEY_FILE, ingress.path)
            # A file that was there before us stays as it is, and stays.
            is_ours = key_file in self._listed or not os.path.lexists(ingress.path)
            if ingress.kind == SYSV_QUEUE and is_ours:
                wanted[key_file] = (_KEY_MODE, _SAME, _SAME)
            owner = (_uid(ingress.owner), _gid(ingress.group))
            wanted[ingress.kind, ingress.path] = (int(ingress.mode, 8), *owner)
        return wanted

    def _is_taken(self, kind: str, path: str) -> bool:
        """Say, and log, whether something of another program's is in the way.

        Two directories may have one ftok(3) key, and nobody needs a board to chat.
        """
        if (kind, path) in self._listed or KINDS[kind].look(path) is None:
            return False
        self._log.info(BOARD_FAILED, path=path, reason="another program has shared memory there")
        return True

    def _put_up(self, kind: str, path: str) -> None:
        listed = self._listed.get((kind, path))
        if listed is not None and (identity := listed.find()) is not None:
            if listed.identity is None:
                self._list(kind, path, identity)
            return
        if listed is not None:
            listed.remove()  # its name leads elsewhere now
        if KINDS[kind].look(path) is not None:
            raise StartError(f"{kind} {path} exists already, and is not ours")
        self._list(kind, path, None)
        self._list(kind, path, KINDS[kind].make(path))

    def _remove(self, name: tuple[str, str]) -> bool:
        """Remove what is listed, and still ours; False if it was gone."""
        kind, path = name
        if kind == FIFO and path in self._fifos:
            os.close(self._fifos.pop(path))
        was_there = False
        try:
            was_there = self._listed[name].remove()
        except (ChannelError, OSError) as error:
            self._log.warning(LEFTOVER_KEPT, kind=kind, name=path, reason=str(error))
        del self._listed[name]
        self._write()
        return was_there

    def _list(self, kind: str, path: str, identity: Identity | None) -> None:
        self._listed[kind, path] = LocalObject(kind, path, identity)
        self._write()

    def _read(self) -> list[LocalObject]:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(LIST_FILE, flags, dir_fd=self._runtime.fd)
        except FileNotFoundError:
            return []
        with open(fd, "rb") as file:
            try:
                return msgspec.json.decode(file.read(), type=list[LocalObject])
            except msgspec.MsgspecError as error:
                raise StartError(f"{self._runtime.path / LIST_FILE}: {error}") from error

    def _write(self) -> None:
        """Put another list in place of the one that is there, at once."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        here = self._runtime.fd
        try:
            fd = os.open(_NEW_LIST_FILE, flags, 0o600, dir_fd=here)
            with open(fd, "w", encoding="utf-8") as file:
                json.dump(msgspec.to_builtins(list(self._listed.values())), file)
            os.rename(_NEW_LIST_FILE, LIST_FILE, src_dir_fd=here, dst_dir_fd=here)
        except OSError as error:
            raise StartError(f"{self._runtime.path / LIST_FILE}: {error.strerror}") from error


@contextmanager
def _told(kind: str, path: str) -> Iterator[None]:
    """Tell what cannot be made as what keeps the daemon from starting."""
    try:
        yield
    except ChannelError as error:
        raise StartError(f"{kind} {path}: {error}") from error
    except OSError as error:
        raise StartError(f"{kind} {path}: {error.strerror}") from error


def _uid(name: str) -> int:
    if not name:
        return _SAME
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise StartError(f"ingress: there is no user {name}") from error


def _gid(name: str) -> int:
    if not name:
        return _SAME
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise StartError(f"ingress: there is no group {name}") from error
