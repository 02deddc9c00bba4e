"""People who talk at full speed, each in a thread, and what they have heard and been answered.

Every message is unlike any other, so who gets it is known, and that he gets it once. A batch is
sent only when the one before has been answered.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.harness.client import LineClient

_BATCH: Final = 8


class Talker:
    """One of them. Owner: its thread while it talks, before and after that the test."""

    def __init__(self, name: str, client: LineClient) -> None:
        self.name: Final = name
        self.client: Final = client
        self.said: Final[list[tuple[str, str]]] = []
        self.heard: Final[Counter[str]] = Counter()
        self._open: Final[set[str]] = set()

    def talk(self, to: Sequence[str], is_over: threading.Event) -> None:
        """Talk to all of `to` in turn until it is over and all is answered."""
        numbers = itertools.count(len(self.said))
        receivers = itertools.cycle(to)
        while not is_over.is_set():
            lines = []
            for number, receiver in zip(itertools.islice(numbers, _BATCH), receivers, strict=False):
                self._open.add(f"@{number} OK CHAT {receiver}")
                self.said.append((receiver, f"CHAT {self.name} {number}"))
                lines.append(f"@{number} CHAT {receiver} {number}")
            self.client.send(*lines)
            while self._open:
                self._take(self.client.read_line())

    def hear_out(self, messages: int) -> None:
        """Read until `messages` have come in all, and find that nothing else has."""
        while self.heard.total() < messages:
            self._take(self.client.read_line())
        self.client.expect_nothing()

    def _take(self, line: str) -> None:
        if line.startswith("CHAT "):
            self.heard[line] += 1
        else:
            assert line in self._open, f"{line!r} answers nothing that {self.name} said"
            self._open.remove(line)


class Talk:
    """A conversation of all with all. A context manager: it begins, and is over at its end.

    Then every message must have been answered OK, once, and have reached its receiver, once.
    """

    def __init__(self, talkers: Sequence[Talker]) -> None:
        self._talkers: Final = talkers
        self._is_over: Final = threading.Event()
        self._failures: Final[list[BaseException]] = []
        self._threads: Final = [
            threading.Thread(target=self._run, args=(talker,)) for talker in talkers
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_SECONDS)
        if failure is not None:
            return
        assert not self._failures, self._failures
        assert not any(thread.is_alive() for thread in self._threads)
        expected = {talker.name: Counter[str]() for talker in self._talkers}
        for talker in self._talkers:
            for receiver, line in talker.said:
                expected[receiver][line] += 1
        for talker in self._talkers:
            talker.hear_out(expected[talker.name].total())
            assert talker.heard == expected[talker.name]

    def _run(self, talker: Talker) -> None:
        others = [other.name for other in self._talkers if other is not talker]
        try:
            talker.talk(others, self._is_over)
        except BaseException as failure:  # noqa: BLE001 - told at the end
            self._failures.append(failure)
