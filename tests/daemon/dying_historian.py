"""A daemon whose historian fails at what tests tell it to. Run as the command.

`poison` in a message kills the historian that is about to store it, each of them; `unsortable` is
what it cannot make rows of.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from prefork_chat.cli.main import main
from prefork_chat.historian.batch import Batches
from prefork_chat.history.sorting import Sorter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.history.archive import Archive, Message
    from prefork_chat.history.sorting import Stored

POISON: Final = b"poison"
UNSORTABLE: Final = b"unsortable"

_open = Batches._open
_messages = Sorter._messages


def open_section(batches: Batches, archive: Archive, section: bytes) -> Sequence[bytes]:
    if POISON in section:
        os.kill(os.getpid(), signal.SIGKILL)
    return _open(batches, archive, section)


def messages(sorter: Sorter, stored: Stored, recipients: dict[bytes, int]) -> list[Message]:
    if UNSORTABLE in stored[-1]:
        raise ValueError("a bug")
    return _messages(sorter, stored, recipients)


if __name__ == "__main__":
    setattr(Batches, "_open", open_section)  # noqa: B010 - mypy would not have it otherwise
    setattr(Sorter, "_messages", messages)  # noqa: B010
    sys.exit(main())
