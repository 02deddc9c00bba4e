"""A copy of the history while the daemon writes it: SQLite's online backup.

For the operator, who may read the file. The copy is what was committed when it began; the historian
does not wait for it, and neither does anybody else.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from prefork_chat.history.schema import open_reader

if TYPE_CHECKING:
    from pathlib import Path


def back_up(source: Path, target: Path) -> int:
    """Copy the history to `target`, readable by its owner alone; return its size in bytes.

    The file is there when all of it is there. Raises sqlite3.Error or OSError.
    """
    aside = target.with_name(f"{target.name}.part")
    with contextlib.closing(open_reader(source)) as reader:
        aside.unlink(missing_ok=True)
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with contextlib.closing(sqlite3.connect(aside)) as copy:
                reader.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
            os.rename(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    return target.stat().st_size
