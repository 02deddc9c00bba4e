"""A daemon whose accounts clerk dies, with its worker, where a test says. Run as the command.

The file $DEATHS lists where: `asked` (before a question is looked at), `decided` (whatever is kept
has been committed, and nobody has been told), `told` (the loop has the answer, and has not come to
it). Each word is for one worker. `stuck` is a clerk that never comes to an answer, `failing` one
that has a bug. What is asked again after a death counts twice, so it is lenient, too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.cli.main import main
from prefork_chat.worker.inquiries import Inquiries
from prefork_chat.worker.registrar import Registrar
from tests.daemon.lenient import be_lenient

if TYPE_CHECKING:
    from prefork_chat.chat.effects import Answer
    from prefork_chat.worker.clerk import Inquiry, Later

DEATHS: Final = "DEATHS"
PLACES: Final = ("asked", "decided", "told")
STUCK: Final = "stuck"
FAILING: Final = "failing"

_answer = Registrar.answer


def is_to_die(place: str) -> bool:
    """Say whether this process is to die here, and cross it off the list."""
    path = Path(os.environ[DEATHS])
    places = path.read_text(encoding="ascii").split()
    if places[:1] != [place]:
        return False
    path.write_text(" ".join(places[1:]), encoding="ascii")
    return True


def die(place: str) -> None:
    """End this process if it is to die here."""
    if is_to_die(place):
        os.kill(os.getpid(), signal.SIGKILL)


def answer(registrar: Registrar, inquiry: Inquiry) -> Answer | Later:
    die("asked")
    place = Path(os.environ[DEATHS]).read_text(encoding="ascii")
    if place == STUCK:
        threading.Event().wait()
    if place == FAILING:
        raise RuntimeError("a bug")
    answer = _answer(registrar, inquiry)
    die("decided")
    return answer


def receive(inquiries: Inquiries, inquiry: Inquiry, answer: Answer) -> None:
    is_last = is_to_die("told")  # asked before: a loop that is awake may take the answer at once
    inquiries.answers.append((inquiry, answer))
    if is_last:
        os.kill(os.getpid(), signal.SIGKILL)
    inquiries._wake()


if __name__ == "__main__":
    be_lenient()
    setattr(Registrar, "answer", answer)  # noqa: B010 - mypy would not have it otherwise
    setattr(Inquiries, "_receive", receive)  # noqa: B010
    sys.exit(main())
