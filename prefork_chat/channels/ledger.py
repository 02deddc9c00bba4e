"""Who serves and who reads which channel: one file for each, and the locks on it.

Called by `mechanisms` when a channel is opened, by the ends of it to ask for the other one, and by
`ipc list` and `ipc clean`. The file `<mechanism>-<key>.channel` is made, and locked, before any
object of the channel, and goes after all of them; so whatever a killed server left has a file, and
nothing else is ever removed. The kernel drops the locks at any death: byte 0 is locked while the
server lives, byte 1 while the reader does. The pids in it are only there to be told to people.

    <10s1x10s1x> pid of the server, pid of the reader (decimal; spaces: not come yet), then
    JSON         {"path": key file, "boot": boot id, "ids": {purpose: System V id}}

A file belongs to one server: the next one removes it under its lock and makes another. So an end
that has it open is never told of another server's life. The locks are those of open file
descriptions (fcntl(2), F_OFD_SETLK): they can be asked for without being taken.

The directory belongs to one user: $XDG_RUNTIME_DIR/prefork-chat-ipc, else
/tmp/prefork-chat-ipc-UID. Objects of a boot before this one are gone: their keys say nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.errors import ChannelError, ChannelTaken, NoServer, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_chat.channels.key import Key

_FLOCK: Final = struct.Struct("@hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid
_SERVER: Final = 0
_READER: Final = 1
_PID_BYTES: Final = 10
_JSON_AT: Final = 2 * (_PID_BYTES + 1)
_SUFFIX: Final = ".channel"
_NAME: Final = re.compile(r"([a-z]+(?:-[a-z]+)*)-([0-9a-f]{8})\.channel")
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_MAX_JSON_BYTES: Final = 65536


def default_directory() -> Path:
    """Return where this user's ledger is."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "prefork-chat-ipc"
    return Path(f"/tmp/prefork-chat-ipc-{os.geteuid()}")


@dataclass(slots=True)
class Entry:
    """An open file of the ledger. Owner: one end of the channel; closing drops its lock."""

    path: Path
    mechanism: str
    number: int
    _fd: int
    _ids: dict[str, int] = field(default_factory=dict)
    _key_path: str = "?"
    _boot: str = ""

    def pid(self, side: int) -> int:
        """Return the pid that was written for a side; 0: it has not come yet."""
        text = os.pread(self._fd, _PID_BYTES, side * (_PID_BYTES + 1)).strip()
        return int(text) if text.isdigit() else 0

    @property
    def server_pid(self) -> int:
        """Who serves it, or did."""
        return self.pid(_SERVER)

    @property
    def reader_pid(self) -> int:
        """Who reads it, or did; 0: nobody yet."""
        return self.pid(_READER)

    @property
    def key_path(self) -> str:
        """The path of the key's file, as the server gave it."""
        return self._key_path

    def is_server_alive(self) -> bool:
        """Say whether the server that made this file lives."""
        return _is_locked(self._fd, _SERVER)

    def is_reader_alive(self) -> bool:
        """Say whether a reader is there now."""
        return _is_locked(self._fd, _READER)

    def has_reader_gone(self) -> bool:
        """Say whether there was a reader and it is no more."""
        return self.reader_pid != 0 and not self.is_reader_alive()

    def made_id(self, purpose: str) -> int | None:
        """Return the noted id of an object; None if its server died before noting it."""
        return self._ids.get(purpose)

    def is_of_this_boot(self) -> bool:
        """Say whether the kernel that runs is the one that had its objects."""
        return self._boot == _boot_id()

    def note(self, **ids: int) -> None:
        """Write down the ids of the System V objects that were made. For the server."""
        self._ids.update(ids)
        self._write()

    def claim(self) -> None:
        """Become the channel's only reader, until close. Raises ChannelTaken, NoServer."""
        if not _lock(self._fd, _READER):
            raise ChannelTaken(f"it is being read already, by pid {self.reader_pid}")
        if self.reader_pid:
            raise NoServer(f"its server had a reader (pid {self.reader_pid}) and is ending")

    def come(self) -> None:
        """Tell the server that its reader, which has claimed the channel, has opened it."""
        os.pwrite(self._fd, b"%10d" % os.getpid(), _PID_BYTES + 1)

    def remove(self) -> None:
        """Remove the file, if it is still this one, and close it: all objects are gone."""
        if self._fd >= 0 and self._is_in_place():
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Drop the locks."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _start(self, key: Key) -> None:
        self._key_path = str(key.path)
        self._boot = _boot_id()
        os.pwrite(self._fd, b"%10d %10s\n" % (os.getpid(), b""), 0)
        self._write()

    def _write(self) -> None:
        facts = {"path": self._key_path, "boot": self._boot, "ids": self._ids}
        os.pwrite(self._fd, json.dumps(facts).encode(), _JSON_AT)

    def _read(self) -> None:
        try:
            facts = json.loads(os.pread(self._fd, _MAX_JSON_BYTES, _JSON_AT))
        except ValueError:
            return  # its server was killed before it wrote it, so it made nothing
        match facts:
            case {"path": str(path), "boot": str(boot), "ids": dict(ids)}:
                self._key_path, self._boot = path, boot
                self._ids = {
                    str(purpose): number
                    for purpose, number in ids.items()
                    if isinstance(number, int)
                }

    def _is_in_place(self) -> bool:
        try:
            there = self.path.stat(follow_symlinks=False)
        except OSError:
            return False
        mine = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


class Ledger:
    """The files of one directory; it is made when the first channel is served."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory

    def register(
        self, mechanism: str, key: Key, remove_objects: Callable[[Entry], object]
    ) -> Entry:
        """Become the server of a channel; what a dead one left is removed first.

        Raises ChannelTaken, NotPermitted, ChannelError.
        """
        self._make_directory()
        path = self._path(mechanism, key)
        while True:
            try:
                fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                self._take_over(mechanism, key, remove_objects)
                continue
            except OSError as error:
                raise ChannelError(f"{path}: {error.strerror}") from error
            entry = Entry(path, mechanism, key.number, fd)
            if _lock(fd, _SERVER) and entry._is_in_place():  # noqa: SLF001 - of this module
                entry._start(key)  # noqa: SLF001
                return entry
            entry.close()  # whoever tidies up found it unlocked for a blink

    def find(self, mechanism: str, key: Key) -> Entry | None:
        """Open the file of a channel; None if there is none. Raises NotPermitted."""
        return self._open(self._path(mechanism, key), mechanism, key.number)

    def entries(self) -> Iterator[Entry]:
        """Open one file after the other; the caller closes or removes each."""
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return
        except OSError as error:
            raise NotPermitted(f"{self.directory}: {error.strerror}") from error
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            entry = self._open(self.directory / name, match[1], int(match[2], 16))
            if entry is not None:
                yield entry

    def try_remove(self, entry: Entry, remove_objects: Callable[[Entry], object]) -> bool:
        """Remove a dead server's objects and file; False if the server lives. Closes the entry."""
        try:
            if not _lock(entry._fd, _SERVER):  # noqa: SLF001 - of this module
                return False
            if not entry._is_in_place():  # noqa: SLF001
                return False  # a new server has taken over already
            remove_objects(entry)
            entry.remove()
            return True
        finally:
            entry.close()

    def _take_over(
        self, mechanism: str, key: Key, remove_objects: Callable[[Entry], object]
    ) -> None:
        entry = self.find(mechanism, key)
        if entry is None:
            return
        pid, path, is_alive = entry.server_pid, entry.key_path, entry.is_server_alive()
        if is_alive or not self.try_remove(entry, remove_objects):
            entry.close()
            shared = "" if path == str(key.path) else f", whose key file {path} has the same key"
            raise ChannelTaken(f"{key.path} is served by {mechanism} already: pid {pid}{shared}")

    def _open(self, path: Path, mechanism: str, number: int) -> Entry | None:
        try:
            fd = os.open(path, _OPEN)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NotPermitted(f"{path}: {error.strerror}") from error
        entry = Entry(path, mechanism, number, fd)
        entry._read()  # noqa: SLF001 - of this module
        return entry

    def _path(self, mechanism: str, key: Key) -> Path:
        return self.directory / f"{mechanism}-{key.name}{_SUFFIX}"

    def _make_directory(self) -> None:
        """Make it, mode 0700; refuse one in which others could put something in our way."""
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            status = self.directory.lstat()
        except OSError as error:
            raise ChannelError(f"{self.directory}: {error.strerror}") from error
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise NotPermitted(f"{self.directory} is not a directory of this user")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotPermitted(f"{self.directory} is writable for others")


def _lock(fd: int, at: int) -> bool:
    """Lock one byte for this open file; False if somebody else has it."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_locked(fd: int, at: int) -> bool:
    """Say whether another open file has the byte locked."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
