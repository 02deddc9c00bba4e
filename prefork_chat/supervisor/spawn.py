"""The one place that forks.

Called by the supervisor's only thread, with signals blocked (`signals`). The child runs one
function and leaves by `os._exit`, whatever happens: it never unwinds the parent's stack, so no
`with` or `finally` of the supervisor can run twice. Right before the fork garbage is collected and
the rest frozen: a collection in the child would otherwise touch, and so copy, every page (worker
PSS 11.6 → 5.9 MB).
"""

from __future__ import annotations

import faulthandler
import gc
import os
from typing import TYPE_CHECKING, Final

from prefork_chat.log import WORKER_FAILED, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

_STDERR_FD: Final = 2
_FAILED: Final = 70  # sysexits(3), EX_SOFTWARE: told apart from what a worker may return


def spawn(prepare: Callable[[], None], main: Callable[[], int]) -> int:
    """Fork a child that calls `prepare`, then `main`, and exits with its result; return its pid.

    `prepare` gives up what is the supervisor's alone; it runs before anything else and lets signals
    in. An exception in the child is logged and ends it with 70. Raises OSError (EAGAIN, ENOMEM) if
    the kernel refuses.
    """
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        _run_child(prepare, main)
    return pid


def _run_child(prepare: Callable[[], None], main: Callable[[], int]) -> None:
    code = _FAILED
    try:
        prepare()
        faulthandler.enable(_STDERR_FD)  # the stacks of all threads on SIGABRT, SIGSEGV, SIGBUS
        code = main()
    except BaseException:  # noqa: BLE001 - nothing may unwind into the parent's code
        get_logger().exception(WORKER_FAILED)
    finally:
        os._exit(code)
