"""The last ends of workers, and why: in shared memory, for whoever looks on.

Decides what an end may mean, and how those of late are remembered: a ring of ENDINGS rows, one for
each end, the oldest overwritten. The supervisor alone writes, without a lock, after it has reaped a
worker; everybody may read. What a killed supervisor has written is still there for one that systemd
hands the registry to, and numbers go on.

    <q q q q q q q q>   number, p_id, generation, pid, ending, status, ended_ns, lived_ns
                        number: of this end, from 1 on; 0 while the row is written
                        ending: place in `Ending`; status: waitpid's
                        ended_ns: time.time_ns(), for people; lived_ns: from fork to end
"""

from __future__ import annotations

import enum
import os
import signal
from typing import Final

from msgspec import Struct

from prefork_chat.registry.layout import ENDINGS, LINE_WORDS


class Ending(enum.Enum):
    """What the end of a worker means."""

    RETIRED = "retired"
    FAILED = "failed"
    CRASHED = "crashed"
    STOPPED = "stopped"
    LEFT = "left"


_CODES: Final = tuple(Ending)


class End(Struct, frozen=True, kw_only=True):
    """The end of one worker; `how` is in words, `ended_at` seconds since the epoch."""

    number: int
    p_id: int
    generation: int
    pid: int
    meaning: str
    how: str
    ended_at: float
    lived_seconds: float


def describe_status(status: int) -> str:
    """Say in words how a process ended: `exit 3`, `SIGKILL`. `status` is waitpid's."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"  # a real-time signal: Python names only the first and the last


class Endings:
    """Views only: may be read in any process and thread."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview[int]) -> None:
        """`words` is a view of format "q" of exactly this part."""
        self._words = words

    def add(  # noqa: PLR0913 - the fields of a row
        self,
        *,
        p_id: int,
        generation: int,
        pid: int,
        ending: Ending,
        status: int,
        ended_ns: int,
        lived_ns: int,
    ) -> None:
        """Note an end (supervisor)."""
        number = self._last() + 1
        fields = (p_id, generation, pid, _CODES.index(ending), status, ended_ns, lived_ns)
        row = self._row(number)
        row[0] = 0
        for place, field in enumerate(fields, 1):
            row[place] = field
        row[0] = number

    def recent(self) -> list[End]:
        """Return the last ends that are known, the latest first."""
        last = self._last()
        found = (self._read(number) for number in range(last, max(0, last - ENDINGS), -1))
        return [end for end in found if end is not None]

    def close(self) -> None:
        """Let go of the shared memory in this process."""
        self._words.release()

    def _last(self) -> int:
        return max(self._words[::LINE_WORDS])

    def _row(self, number: int) -> memoryview[int]:
        start = number % ENDINGS * LINE_WORDS
        return self._words[start : start + LINE_WORDS]

    def _read(self, number: int) -> End | None:
        """Read the row of an end; None if another one is being, or has been, written over it."""
        row = self._row(number)
        _, p_id, generation, pid, code, status, ended_ns, lived_ns = words = row.tolist()
        if words[0] != number or row[0] != number:
            return None
        return End(
            number=number,
            p_id=p_id,
            generation=generation,
            pid=pid,
            meaning=_CODES[code].value,
            how=describe_status(status),
            ended_at=ended_ns / 1e9,
            lived_seconds=lived_ns / 1e9,
        )
