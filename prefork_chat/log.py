"""What a log line looks like and how it leaves the process; and the one list of event names.

Called by every process: `configure` once by the command before anything is forked (workers inherit
it), `get_logger` by whoever logs. A logger may be used from any thread and after fork: there is no
lock and no buffer that a fork could catch half-way. A line leaves by one `os.write`, so lines of
several processes do not mix (up to PIPE_BUF on a pipe). A line that nobody takes (full pipe, closed
stderr) is dropped after 20 ms: a log must never stop or kill a chat server.

With `log.file` a line goes into that file. Each process looks before each line whether the file is
still the one at that path (1.3 us), and goes on in a new one if it has been moved or removed: so
whoever rotates logs need not tell every worker, and none writes into the old file for long.

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

from prefork_chat.errors import StartError


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
SUPERVISOR_RESUMED: Final = "supervisor.resumed"
SUPERVISOR_RESIZED: Final = "supervisor.resized"
SUPERVISOR_DRAINING: Final = "supervisor.draining"
SUPERVISOR_STOPPING: Final = "supervisor.stopping"
SUPERVISOR_STOPPED: Final = "supervisor.stopped"
SUPERVISOR_DEGRADED: Final = "supervisor.degraded"
LEFTOVER_REMOVED: Final = "leftover.removed"
LEFTOVER_KEPT: Final = "leftover.kept"
SIGNAL_RECEIVED: Final = "signal.received"
LISTENER_OPENED: Final = "listener.opened"
LISTENER_DELAYED: Final = "listener.delayed"
LOG_REOPENED: Final = "log.reopened"
CONFIG_LOADED: Final = "config.loaded"
CONFIG_KEPT: Final = "config.kept"
CONFIG_REJECTED: Final = "config.rejected"
CONFIG_RESTORED: Final = "config.restored"
UPGRADE_BEGUN: Final = "upgrade.begun"
UPGRADE_REJECTED: Final = "upgrade.rejected"
OPERATION_REFUSED: Final = "operation.refused"
REPLACEMENT_BEGUN: Final = "replacement.begun"
REPLACEMENT_FINISHED: Final = "replacement.finished"
REPLACEMENT_FAILED: Final = "replacement.failed"
ADMIN_REFUSED: Final = "admin.refused"
KEEPER_LIMITED: Final = "keeper.limited"
KEEPER_FILLED: Final = "keeper.filled"
STORE_FILLED: Final = "store.filled"
STORE_FAILED: Final = "store.failed"
STORE_REJECTED: Final = "store.rejected"
# -- events: the life of a worker
WORKER_SPAWNED: Final = "worker.spawned"
WORKER_READY: Final = "worker.ready"
WORKER_TOLD: Final = "worker.told"
WORKER_RECALLED: Final = "worker.recalled"
WORKER_EXITED: Final = "worker.exited"
WORKER_FAILED: Final = "worker.failed"
WORKER_THROTTLED: Final = "worker.throttled"
WORKER_STUCK: Final = "worker.stuck"
WORKER_KILLED: Final = "worker.killed"
WORKER_RETIRING: Final = "worker.retiring"
WORKER_STOPPED: Final = "worker.stopped"
# -- events: the life of an attendant
ATTENDANT_SPAWNED: Final = "attendant.spawned"
ATTENDANT_READY: Final = "attendant.ready"
ATTENDANT_TOLD: Final = "attendant.told"
ATTENDANT_EXITED: Final = "attendant.exited"
ATTENDANT_THROTTLED: Final = "attendant.throttled"
ATTENDANT_STUCK: Final = "attendant.stuck"
ATTENDANT_KILLED: Final = "attendant.killed"
# -- events: in a worker
ACCEPT_PAUSED: Final = "accept.paused"
ACCEPT_RESUMED: Final = "accept.resumed"
SESSIONS_ADOPTED: Final = "sessions.adopted"
SESSION_RETURNED: Final = "session.returned"
CLIENT_EXPELLED: Final = "client.expelled"
BACKLOG_UNPROTECTED: Final = "backlog.unprotected"
MOVE_UNNOTED: Final = "move.unnoted"
QUESTION_FAILED: Final = "question.failed"
ACCOUNTS_UNKNOWN: Final = "accounts.unknown"
ACCOUNTS_FAILED: Final = "accounts.failed"
ACCOUNTS_RECOVERED: Final = "accounts.recovered"
BANS_UNREADABLE: Final = "bans.unreadable"
LINE_REJECTED: Final = "line.rejected"
# -- events: in the historian
HISTORY_FAILED: Final = "history.failed"
HISTORY_REPLACED: Final = "history.replaced"
HISTORY_RECOVERED: Final = "history.recovered"
HISTORY_SHELVED: Final = "history.shelved"
# -- events: in the porter
INGRESS_JOINED: Final = "ingress.joined"
INGRESS_REFUSED: Final = "ingress.refused"
INGRESS_REJECTED: Final = "ingress.rejected"
INGRESS_DROPPED: Final = "ingress.dropped"
INGRESS_FAILED: Final = "ingress.failed"
BOARD_FAILED: Final = "board.failed"
LOCAL_FAILED: Final = "local.failed"
METRICS_OPENED: Final = "metrics.opened"
METRICS_FAILED: Final = "metrics.failed"

# Longest wait for a reader of the log who has fallen behind (a full pipe, a terminal after ^S).
_STUCK_READER_MS: Final = 20
_STDERR: Final = 2


class LineWriter:
    """The end of the chain: one method for each level, which writes a line to one descriptor."""

    __slots__ = ("_fd", "_is_journal")

    def __init__(self, fd: int, *, is_journal: bool) -> None:
        self._fd = fd
        self._is_journal = is_journal

    def close(self) -> None:
        """Close what is this writer's own; a descriptor that it was given stays open."""

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


class FileWriter(LineWriter):
    """Writes to the file at a path, whichever file that is."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        """Open the file for appending; raises StartError."""
        self._path = os.path.abspath(path)
        try:
            super().__init__(_open_to_append(self._path), is_journal=False)
        except OSError as error:
            raise StartError(f"log.file: {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; a logger that was bound before goes on to stderr.

        Its number will be another file's, perhaps a client's.
        """
        fd, self._fd = self._fd, _STDERR
        os.close(fd)

    def _write(self, priority: bytes, line: str) -> None:
        try:
            if self._fd != _STDERR and not self._is_in_place():
                self._reopen()
        except OSError:
            pass  # better in the old file than nowhere
        super()._write(priority, line)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _reopen(self) -> None:
        """Put the file that is there now in place of the old one; any thread, even two at once."""
        fd = _open_to_append(self._path)
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)


class _Destination:
    """The logger factory: whatever is logged goes to one writer."""

    def __init__(self, writer: LineWriter) -> None:
        self.writer: Final = writer

    def __call__(self, *_: object) -> LineWriter:
        return self.writer


def configure(config: LogConfig, stream: TextIO | None = None) -> None:
    """Set up logging of this process and of all that it forks; a later call replaces this one.

    `stream`: a file with a descriptor; None: `config.file`, or descriptor 2. Loggers made before
    see the new settings too. Raises StartError, and changes nothing, if the file cannot be opened.
    """
    if stream is None and config.file:
        fd = -1
        writer: LineWriter = FileWriter(config.file)
    else:
        fd = _STDERR if stream is None else stream.fileno()  # sys.stderr is None if 2 was closed
        is_journal = config.format == "auto" and is_journal_stream(fd, os.environ)
        writer = LineWriter(fd, is_journal=is_journal)
    is_tty = fd >= 0 and os.isatty(fd)
    is_console = config.format == "console" or (config.format == "auto" and is_tty)
    previous = structlog.get_config()["logger_factory"]
    structlog.configure(
        processors=_processors(is_console=is_console, is_tty=is_tty),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[config.level.upper()]
        ),
        logger_factory=_Destination(writer),
        cache_logger_on_first_use=False,
    )
    if isinstance(previous, _Destination):
        previous.writer.close()


def get_logger(**bound: object) -> FilteringBoundLogger:
    """Return a logger whose lines carry `bound`; may be called before `configure`."""
    logger: FilteringBoundLogger = structlog.get_logger(**bound)
    return logger


def _open_to_append(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)


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
