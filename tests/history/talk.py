"""Short words for what tests of the history do all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_chat.history.archive import Archive
    from prefork_chat.history.reading import Page


def say(archive: Archive, sender: str, recipient: str, *texts: str, time_ms: int = 1) -> list[int]:
    """Store messages, in one transaction; names in upper case are keys in lower case."""
    with archive.transaction():
        return [
            archive.add(time_ms, person(archive, sender), person(archive, recipient), text)
            for text in texts
        ]


def say_in_room(archive: Archive, sender: str, room: str, *texts: str) -> list[int]:
    with archive.transaction():
        who, where = person(archive, sender), person(archive, room)
        return [archive.add_to_room(1, who, where, text) for text in texts]


def person(archive: Archive, name: str) -> int:
    return archive.person(name.lower(), name.removeprefix("~"))


def texts(page: Page) -> list[str]:
    return [entry.text for entry in page.entries]


def numbered(count: int) -> Iterable[str]:
    return (f"message {number}" for number in range(count))
