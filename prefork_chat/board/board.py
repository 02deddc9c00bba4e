"""The board as it is opened, written and read.

The supervisor makes the segment, and removes it at the end; one process of the daemon at a time
writes, any number of others read. The sequence word is odd while somebody writes (a sequence lock):
the writer never waits, and a reader takes what it has copied only if the word was even and is the
same afterwards. A writer that is killed in the middle leaves it odd; its successor writes all anew
and makes it even. Until then a reader gets no answer, and says so after a while.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prefork_chat.board import layout
from prefork_chat.channels.errors import ChannelError, NoServer, NotPermitted, ObjectTaken
from prefork_chat.channels.sysv import SysvMemory, system_v_key

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from prefork_chat.board.layout import Content

_ATTEMPTS: Final = 200
_PAUSE_SECONDS: Final = 0.005  # a change takes some 10 us; a new writer is there within a second


class Board:
    """An attached board. Owner: the thread that opened it."""

    def __init__(self, memory: SysvMemory) -> None:
        """Take over an attached segment, which is to have the size of a board."""
        self._memory: Final = memory
        self._words: Final = memory.view[: layout.SIZE_BYTES // 8 * 8].cast("B").cast("Q")

    @classmethod
    def open_to_write(cls, key: int, maker_pid: int) -> tuple[Board, Content | None]:
        """Attach the segment that was made for us; return what a writer before us has left, too.

        `maker_pid`: who has made it, or gone on after whoever did. Raises ChannelError, and that is
        ObjectTaken if somebody else who lives made it: two files may have one ftok(3) key.
        """
        memory = SysvMemory.open(key)
        if memory.has_other_maker(maker_pid):
            memory.close()
            raise ObjectTaken(f"shared memory {key:#010x} is that of another program")
        board = cls(memory)
        head = layout.HEAD.pack(layout.MAGIC, layout.VERSION, layout.SIZE_BYTES)
        view = board._memory.view
        before: Content | None = None
        if bytes(view[: len(head)]) == head:
            before = layout.unpack(bytes(view[layout.FIGURES_OFFSET : layout.SIZE_BYTES]))
        view[: len(head)] = head
        return board, before

    @classmethod
    def open_to_read(cls, directory: Path) -> Board:
        """Attach the board of the daemon in a runtime directory.

        Raises NoServer if there is none, NotPermitted, ChannelError.
        """
        key = key_of(directory)
        try:
            memory = SysvMemory.open_to_read(key)
        except NoServer as error:
            raise NoServer(f"no daemon that has a board runs in {directory}") from error
        head = bytes(memory.view[: layout.HEAD.size]).ljust(layout.HEAD.size, b"\0")
        magic, version, size = layout.HEAD.unpack(head)
        if magic != layout.MAGIC or len(memory.view) < layout.SIZE_BYTES:
            memory.close()
            raise ChannelError(f"the shared memory of {directory} is not a board")
        if version != layout.VERSION or size < layout.SIZE_BYTES:
            memory.close()
            raise ChannelError(f"the board of {directory} has version {version}, not ours")
        return cls(memory)

    def write(self, content: Content) -> None:
        """Bring the board up to date. One process at a time."""
        data = layout.pack(content)
        words = self._words
        sequence = words[layout.SEQUENCE_WORD] | 1  # odd already: our predecessor was killed here
        words[layout.SEQUENCE_WORD] = sequence
        self._memory.view[layout.FIGURES_OFFSET : layout.FIGURES_OFFSET + len(data)] = data
        words[layout.SEQUENCE_WORD] = sequence + 1

    def read(self) -> Content:
        """Return what the board says at one moment. Raises ChannelError after about a second."""
        words = self._words
        for _ in range(_ATTEMPTS):
            before = words[layout.SEQUENCE_WORD]
            data = bytes(self._memory.view[layout.FIGURES_OFFSET : layout.SIZE_BYTES])
            if not before & 1 and words[layout.SEQUENCE_WORD] == before:
                return layout.unpack(data)
            time.sleep(_PAUSE_SECONDS)
        raise ChannelError("the board is being written all the time, or its writer was killed")

    def close(self) -> None:
        """Detach."""
        self._words.release()
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def key_of(directory: Path) -> int:
    """Return the key of the board of a runtime directory. Raises NoServer, NotPermitted."""
    try:
        return system_v_key(directory, layout.PROJECT)
    except FileNotFoundError as error:
        raise NoServer(f"no daemon runs in {directory}") from error
    except PermissionError as error:
        raise NotPermitted(f"{directory}: {error.strerror}") from error
    except OSError as error:
        raise ChannelError(f"{directory}: {error.strerror}") from error
