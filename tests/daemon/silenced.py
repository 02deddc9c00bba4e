"""The daemon, but its first workers die before they can tell a console what they have done.

Run as a module in place of `prefork_chat`: `python -m tests.daemon.silenced serve ...`. A worker of
generation 1 kills itself when a directive has been carried out, recorded and not yet answered.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from prefork_chat.cli.main import main
from prefork_chat.worker.events import Events

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance

_init = Events.__init__
_publish = Events.publish
_doomed: set[int] = set()


def _init_and_note(self: Events, inheritance: Inheritance, t_id: int) -> None:
    _init(self, inheritance, t_id)
    if inheritance.generation == 1:
        _doomed.add(os.getpid())


def _die_with_an_answer(self: Events) -> None:
    if self._answers and os.getpid() in _doomed:
        os.kill(os.getpid(), signal.SIGKILL)
    _publish(self)


Events.__init__ = _init_and_note  # type: ignore[method-assign]
Events.publish = _die_with_an_answer  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
