"""What the operator has posted for everybody: the notice of the day, and the last broadcast.

Each is a file in the state directory, so that it outlives the daemon: the text in one line, UTF-8.
The supervisor writes when it is asked to (`control.Post`); whoever keeps the board reads. The
file's change time is when it was said.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

Topic: TypeAlias = Literal["notice", "broadcast"]
MOST_BYTES: Final = {"notice": 511, "broadcast": 1023}
"""Longest text of each topic: what the board has room for."""

_SUFFIX: Final = ".txt"


class Posted(NamedTuple):
    """A text and when it was posted (CLOCK_REALTIME); empty and 0: there is none."""

    text: str
    said_ns: int


def complaint(topic: Topic, text: str) -> str:
    """Say what is wrong with a text; empty if nothing is."""
    if len(text.encode(errors="replace")) > MOST_BYTES[topic]:
        return f"a {topic} has {MOST_BYTES[topic]} bytes at most"
    if not text.isprintable():
        return f"a {topic} is one line without control characters"
    return ""


def fit(topic: Topic, text: str) -> str:
    """Return as much of a text as there is nothing to complain about."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean.encode(errors="replace")[: MOST_BYTES[topic]].decode(errors="ignore")


def post(directory: Path, topic: Topic, text: str) -> None:
    """Put a text in place of the last one, at once; an empty one takes it away. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(directory, topic)
    if not text:
        path.unlink(missing_ok=True)
        return
    new = path.with_suffix(".new")
    new.write_text(f"{text}\n", encoding="utf-8")
    os.replace(new, path)


def read(directory: Path, topic: Topic) -> Posted:
    """Return what was posted last; nothing if it cannot be read."""
    try:
        with open(_path(directory, topic), encoding="utf-8", errors="replace") as file:
            return Posted(file.read().rstrip("\n"), os.fstat(file.fileno()).st_mtime_ns)
    except OSError:
        return Posted("", 0)


def _path(directory: Path, topic: Topic) -> Path:
    return directory / f"{topic}{_SUFFIX}"
