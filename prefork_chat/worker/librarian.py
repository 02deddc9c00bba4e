"""How a clerk answers HIST and FIND: from the database, by a connection that can only read.

`Librarian.answer` runs in one thread of the worker, the history's clerk (see `clerk`), which may
wait for the disk. `admit` is called by the desk, in a loop's thread, before a question is asked: it
says in which rooms the client is, and refuses a room that he is not in. So a client gets his own
direct messages and what was said in the rooms that he is in at that moment, and nothing else. Who
has not joined, and has shown which account is his (READ), is in no room and may ask for each: an
account may enter any room, and to read what was said there is no reason to be seen.

What has been answered `OK` is there to be read: it was committed before. While the file cannot be
read every question is answered INTERNAL, and it is tried anew with each.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from prefork_chat import config
from prefork_chat.chat import history
from prefork_chat.chat.effects import FindWords, ReadHistory, Refuse, Reply
from prefork_chat.history.reading import Page, Range, Reader
from prefork_chat.history.schema import FILE_NAME
from prefork_chat.history.search import find

if TYPE_CHECKING:
    from prefork_chat.history.reading import Entry
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.clerk import Inquiry
    from prefork_chat.worker.connection import Connection

_ROOM: Final = b"#"


def admit(
    connection: Connection, question: ReadHistory | FindWords
) -> ReadHistory | FindWords | Refuse:
    """Return the question with the rooms that the client is in, or its refusal."""
    rooms = tuple(connection.rooms)
    if isinstance(question, ReadHistory) and question.about.startswith(_ROOM):
        if question.about not in rooms and connection.session.name:
            return Refuse(history.not_in_room(question))
        rooms = ()  # the answer does not depend on others
    return replace(question, rooms=rooms)


class Librarian:
    """Answers ReadHistory and FindWords. Owner: the clerk's thread."""

    def __init__(self, inheritance: Inheritance) -> None:
        """Prepare; the file is opened by the first question."""
        self._is_kept = inheritance.config.history.enabled
        self._path = config.resolve_state_dir(inheritance.config) / FILE_NAME
        self._reader = Reader(self._path)

    def answer(self, inquiry: Inquiry) -> Reply | Refuse:
        """Answer a question."""
        question = inquiry.question
        assert isinstance(question, ReadHistory | FindWords)
        if not self._is_kept:
            return Refuse(history.kept_nowhere(question))
        try:
            page = self._look_up(question) if self._path.exists() else Page((), has_more=False)
        except (sqlite3.Error, OSError):
            self._reader.close()
            return Refuse(history.failed(question))
        lines = [_tell(entry) for entry in page.entries]
        return Reply(tuple(history.told(question, lines, has_more=page.has_more)))

    def _look_up(self, question: ReadHistory | FindWords) -> Page:
        user = question.user.decode()
        rooms = [room.decode() for room in question.rooms]
        if isinstance(question, FindWords):
            wanted = Range(history.USUAL_LINES, before=question.before)
            return find(self._reader, user, rooms, question.words.decode(), wanted)
        wanted = Range(question.count, question.before, question.after)
        about = question.about.decode()
        if question.about.startswith(_ROOM):
            return self._reader.room(about, wanted)
        if about:
            return self._reader.conversation(user, about, wanted)
        return self._reader.everything(user, rooms, wanted)


def _tell(entry: Entry) -> history.Told:
    when = datetime.fromtimestamp(entry.time_ms / 1000, UTC)
    time = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    words = (time, entry.sender, entry.recipient, entry.text)
    return history.Told(entry.id, *(word.encode() for word in words))
