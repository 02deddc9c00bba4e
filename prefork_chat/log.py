"""What a log line looks like and how it leaves the process; and the one list of event names.

Called by every process: `configure` once by the command before anything is forked (workers inherit
it), `get_logger` by whoever logs. A logger may be used from any thread and after fork: there is no
lock and no buffer that a fork could catch half-way. A line leaves by one `os.write`, so lines of
several processes do not mix (up to PIPE_BUF on a pipe). A line that nobody takes (full pipe, closed
stderr) is dropped after 20 ms: a log must never stop or kill a chat server.

Must not be used in a signal handler (handlers only wake a loop). Never log what clients say, nor
secrets. Names and addresses are fine. info: an operator wants to see it once; warning: somebody
must act; debug: for one's own desk.

Events are constants, `noun.past_verb`, all listed here. Bind what a line is about: p_id,
generation, pid, t_id, slot. A line without a `pid` of its own gets the pid of the process that
wrote it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import select
import sys
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Final, TextIO


class _DeferredModule(ModuleType):
    """Stands in for a module that somebody imports and that is not needed, until it is."""

    def __getattr__(self, name: str) -> object:
        return getattr(importlib.import_module(self.__name__), name)


# structlog imports asyncio for methods that we do not call: 7 MB in every process, and 18 ms.
if "asyncio" not in sys.modules:
    sys.modules["asyncio"] = _DeferredModule("asyncio")
    import structlog

    del sys.modules["asyncio"]
else:
    import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    from prefork_chat.config import LogConfig

# -- events: supervisor
SUPERVISOR_STARTED: Final = "supervisor.started"
SUPERVISOR_READY: Final = "supervisor.ready"
SUPERVISOR_STOPPING: Final = "supervisor.stopping"
SUPERVISOR_STOPPED: Final = "supervisor.stopped"
SUPERVISOR_DEGRADED: Final = "supervisor.degraded"
LEFTOVER_REMOVED: Final = "leftover.removed"
LEFTOVER_KEPT: Final = "leftover.kept"
SIGNAL_RECEIVED: Final = "signal.received"
LISTENER_OPENED: Final = "listener.opened"
LISTENER_DELAYED: Final = "listener.delayed"
CONFIG_REJECTED: Final = "config.rejected"
KEEPER_LIMITED: Final = "keeper.limited"
KEEPER_FILLED: Final = "keeper.filled"
# -- events: the life of a worker
WORKER_SPAWNED: Final = "worker.spawned"
WORKER_READY: Final = "worker.ready"
WORKER_EXITED: Final = "worker.exited"
WORKER_FAILED: Final = "worker.failed"
WORKER_THROTTLED: Final = "worker.throttled"
WORKER_STUCK: Final = "worker.stuck"
WORKER_KILLED: Final = "worker.killed"
WORKER_RETIRING: Final = "worker.retiring"
WORKER_STOPPED: Final = "worker.stopped"
# -- events: in a worker
ACCEPT_PAUSED: Final = "accept.paused"
ACCEPT_RESUMED: Final = "accept.resumed"
SESSIONS_ADOPTED: Final = "sessions.adopted"
BACKLOG_UNPROTECTED: Final = "backlog.unprotected"
LINE_REJECTED: Final = "line.rejected"

# Longest wait for a reader of the log who has fallen behind (a full pipe, a terminal after ^S).
_STUCK_READER_MS: Final = 20
_STDERR: Final = 2


class LineWriter:
    """The end of the chain: one method for each level, which writes a line to one descriptor."""

    __slots__ = ("_fd", "_is_journal")

    def __init__(self, fd: int, *, is_journal: bool) -> None:
        self._fd = fd
        self._is_journal = is_journal

    def debug(self, line: str) -> None:
        """Write a line of level debug."""
        self._write(b"<7>", line)

    def info(self, line: str) -> None:
        """Write a line of level info."""
        self._write(b"<6>", line)

    def warning(self, line: str) -> None:
        """Write a line of level warning."""
        self._write(b"<4>", line)

    def error(self, line: str) -> None:
        """Write a line of level error."""
        self._write(b"<3>", line)

    def critical(self, line: str) -> None:
        """Write a line of level critical."""
        self._write(b"<2>", line)

    def _write(self, priority: bytes, line: str) -> None:
        """Write the line whole, or drop it when nobody takes it.

        `priority`: what sd-daemon(3) wants before a line for the journal.
        """
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        writable = select.poll()
        writable.register(self._fd, select.POLLOUT)
        try:
            if writable.poll(_STUCK_READER_MS):
                os.write(self._fd, priority + data if self._is_journal else data)
        except OSError:
            pass  # EPIPE, EBADF, EAGAIN: nobody reads the log any more


def configure(config: LogConfig, stream: TextIO | None = None) -> None:
    """Set up logging of this process and of all that it forks; a later call replaces this one.

    `stream`: a file with a descriptor; None: descriptor 2. Loggers made before see the new settings
    too.
    """
    fd = _STDERR if stream is None else stream.fileno()  # sys.stderr is None if 2 was closed
    is_console = config.format == "console" or (config.format == "auto" and os.isatty(fd))
    is_journal = config.format == "auto" and is_journal_stream(fd, os.environ)
    writer = LineWriter(fd, is_journal=is_journal)
    structlog.configure(
        processors=_processors(is_console=is_console, is_tty=os.isatty(fd)),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[config.level.upper()]
        ),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )


def get_logger(**bound: object) -> FilteringBoundLogger:
    """Return a logger whose lines carry `bound`; may be called before `configure`."""
    logger: FilteringBoundLogger = structlog.get_logger(**bound)
    return logger


def is_journal_stream(fd: int, environ: Mapping[str, str]) -> bool:
    """Say whether `fd` is the journal's: $JOURNAL_STREAM is `device:inode` (systemd.exec(5))."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _processors(*, is_console: bool, is_tty: bool) -> list[Processor]:
    shared: list[Processor] = [_add_time_and_pid, structlog.processors.add_log_level]
    if is_console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=is_tty, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
        )
        return [*shared, _decode_bytes, renderer]
    # Not dict_tracebacks: it shows local variables, and those hold what people say.
    return [*shared, structlog.processors.format_exc_info, _render_json]


def _add_time_and_pid(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    event["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event.setdefault("pid", os.getpid())
    return event


def _decode_bytes(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    return {
        key: _plain(value) if isinstance(value, bytes) else value for key, value in event.items()
    }


def _render_json(_logger: WrappedLogger, _level: str, event: EventDict) -> str:
    """Render as one line of ASCII, with time, level and event first for the reader's eye."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    return json.dumps(first | dict(event), default=_plain)


def _plain(value: object) -> str:
    return value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value)
