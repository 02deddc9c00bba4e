"""Where everything is on the board: `board.h` in Python. Pure.

A test compiles the header and compares. Integers are in the machine's byte order; every field is
where C puts it without padding.
"""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

PROJECT: Final = ord("B")
"""Of ftok(3), on the runtime directory."""

MAGIC: Final = b"pfcboard"
VERSION: Final = 1
WORKERS: Final = 64

NOTICE_BYTES: Final = 512
BROADCAST_BYTES: Final = 1024
"""With the zero byte at their end."""

HEAD: Final = struct.Struct("=8sII")  # magic, version, size
SEQUENCE_WORD: Final = HEAD.size // 8
FIGURES: Final = struct.Struct("=10q")
FIGURES_OFFSET: Final = HEAD.size + 8
TEXTS: Final = struct.Struct(f"=qq{NOTICE_BYTES}s{BROADCAST_BYTES}s")
TEXTS_OFFSET: Final = FIGURES_OFFSET + FIGURES.size
WORKER: Final = struct.Struct("=ii5q")
WORKERS_OFFSET: Final = TEXTS_OFFSET + TEXTS.size
SIZE_BYTES: Final = WORKERS_OFFSET + WORKERS * WORKER.size

STATES: Final = ("gone", "starting", "ready", "retiring", "stopping")
"""The words for `state`, by its number: those of the worker table."""


class Figures(Struct, frozen=True, kw_only=True):
    """What is counted; the fields of the header, in its order."""

    updated_ns: int = 0
    supervisor_pid: int = 0
    workers: int = 0
    clients: int = 0
    names: int = 0
    rooms: int = 0
    accepted: int = 0
    lines: int = 0
    delivered: int = 0
    refused: int = 0


class Row(Struct, frozen=True, kw_only=True):
    """One worker, as in the header; `state` is a number of STATES."""

    state: int = 0
    pid: int = 0
    generation: int = 0
    heartbeat_ns: int = 0
    clients: int = 0
    lines: int = 0
    delivered: int = 0


class Text(Struct, frozen=True):
    """Something said, and when (CLOCK_REALTIME); 0: never."""

    text: str = ""
    said_ns: int = 0


class Content(Struct, frozen=True, kw_only=True):
    """All that a board says."""

    figures: Figures
    notice: Text
    broadcast: Text
    workers: tuple[Row, ...]


def pack(content: Content) -> bytes:
    """Return what follows the sequence word."""
    figures, notice, broadcast = content.figures, content.notice, content.broadcast
    rows = [WORKER.pack(*_values(row)) for row in content.workers]
    return b"".join(
        (
            FIGURES.pack(*_values(figures)),
            TEXTS.pack(
                notice.said_ns,
                broadcast.said_ns,
                cut(notice.text, NOTICE_BYTES),
                cut(broadcast.text, BROADCAST_BYTES),
            ),
            *rows,
        )
    )


def unpack(data: bytes) -> Content:
    """Read what follows the sequence word."""
    figures = Figures(**_fields(Figures, FIGURES.unpack_from(data)))
    texts = TEXTS.unpack_from(data, FIGURES.size)
    rows = data[FIGURES.size + TEXTS.size :][: figures.workers * WORKER.size]
    return Content(
        figures=figures,
        notice=Text(_read(texts[2]), texts[0]),
        broadcast=Text(_read(texts[3]), texts[1]),
        workers=tuple(Row(**_fields(Row, values)) for values in WORKER.iter_unpack(rows)),
    )


def cut(text: str, size_bytes: int) -> bytes:
    """Return the text as UTF-8 for a field of so many bytes, cut between characters."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean.encode(errors="replace")[: size_bytes - 1].decode(errors="ignore").encode()


def _read(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _fields(kind: type[Struct], values: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(kind.__struct_fields__, values, strict=True))


def _values(struct_: Struct) -> list[int]:
    return [getattr(struct_, field) for field in struct_.__struct_fields__]
