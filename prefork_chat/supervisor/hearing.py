"""What each signal asks of the supervisor.

    SIGHUP   reload       load the configuration; replace all workers if it is right
    SIGTTIN  grow         one worker more
    SIGTTOU  shrink       one worker fewer: the last one moves its clients to others and leaves
    SIGQUIT  drain        accept nobody more; stop when all have left, or after `drain_seconds`
    SIGTERM  stop         tell everybody, hang up, end; a second one: at once (and SIGINT)
    SIGUSR1  reopen log   go on in a new file, if the log has one and it has been moved
    SIGUSR2  upgrade      become the program that is installed now; replace all workers

Called by the supervisor's loop, never in a handler (see `signals`). Whoever sends a signal hears
nothing back: what cannot be done is in the log.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from prefork_chat.errors import ConfigError
from prefork_chat.log import OPERATION_REFUSED, SIGNAL_RECEIVED, get_logger
from prefork_chat.supervisor.operations import Operations, Refused
from prefork_chat.supervisor.signals import STOP

if TYPE_CHECKING:
    from collections.abc import Callable

_OPERATIONS: Final[dict[signal.Signals, tuple[str, Callable[[Operations], object]]]] = {
    signal.SIGHUP: ("reload", Operations.reload),
    signal.SIGTTIN: ("grow", Operations.grow),
    signal.SIGTTOU: ("shrink", Operations.shrink),
    signal.SIGQUIT: ("drain", Operations.drain),
    signal.SIGUSR1: ("reopen log", Operations.reopen_log),
    signal.SIGUSR2: ("upgrade", Operations.upgrade),
}


def hear(operations: Operations, number: signal.Signals) -> None:
    """Do what a signal asks for."""
    log = get_logger()
    if number in STOP:
        meaning = "stop now" if operations.is_stopping else "stop"
        log.info(SIGNAL_RECEIVED, signal=number.name, meaning=meaning)
        operations.stop(number.name)
        return
    meaning, begin = _OPERATIONS[number]
    log.info(SIGNAL_RECEIVED, signal=number.name, meaning=meaning)
    try:
        begin(operations)
    except Refused as refused:
        log.warning(OPERATION_REFUSED, signal=number.name, reason=str(refused))
    except ConfigError:
        pass  # it has been logged
