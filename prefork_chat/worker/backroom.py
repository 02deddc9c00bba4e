"""Who answers the questions of a worker's loops: its clerks, one thread for each kind of work.

Made once by each worker, before its loops. A clerk for another kind of question goes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from prefork_chat.accounts.logins import Logins
from prefork_chat.chat.effects import (
    Authenticate,
    FindWords,
    Identify,
    ReadHistory,
    SetPassword,
)
from prefork_chat.worker.clerk import Clerk
from prefork_chat.worker.librarian import Librarian
from prefork_chat.worker.registrar import Registrar

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.inquiries import Clerks


class Backroom(NamedTuple):
    """The clerks of a worker, and what they have learnt that loops look at."""

    clerks: Clerks
    logins: Logins

    @classmethod
    def of(cls, inheritance: Inheritance) -> Self:
        """Make the clerks of a worker; no thread is started yet."""
        logins = Logins()
        accounts = Clerk("accounts", Registrar(inheritance, logins).answer)
        history = Clerk("history", Librarian(inheritance).answer)
        clerks = {
            **dict.fromkeys((Authenticate, Identify, SetPassword), accounts),
            **dict.fromkeys((ReadHistory, FindWords), history),
        }
        return cls(clerks, logins)
