"""Short words for what tests of the history do all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.history.search import Indexer
from prefork_chat.history.sorting import Sorter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_chat.history.archive import Archive
    from prefork_chat.history.reading import Page


def say(archive: Archive, sender: str, recipient: str, *texts: str, time_ms: int = 1) -> list[int]:
    """Store messages, in one transaction; names in upper case are keys in lower case."""
    with archive.transaction(time_ms):
        lines = [b"CHAT %b %b" % (recipient.encode(), text.encode()) for text in texts]
        person(archive, recipient)
        first = archive.add(person(archive, sender), b"\n".join(lines))
    return list(range(first, first + len(texts)))


def say_in_room(archive: Archive, sender: str, room: str, *texts: str) -> list[int]:
    with archive.transaction(1):
        lines = "\n".join(texts).encode()
        first = archive.add(person(archive, sender), lines, person(archive, room))
    return list(range(first, first + len(texts)))


def sort_all(archive: Archive) -> None:
    sorter = Sorter(archive)
    while sorter.behind:
        sorter.advance()


def index_all(archive: Archive) -> None:
    sort_all(archive)
    indexer = Indexer(archive)
    while indexer.behind:
        indexer.advance()


def person(archive: Archive, name: str) -> int:
    return archive.person(name.lower(), name.removeprefix("~"))


def texts(page: Page) -> list[str]:
    return [entry.text for entry in page.entries]


def numbered(count: int) -> Iterable[str]:
    return (f"message {number}" for number in range(count))
