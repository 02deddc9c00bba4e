"""The historian's life and its turn: from datagrams to rows and answers, exactly once.

The database is the journal. What a kill leaves after each step of a turn is what the next historian
starts from:

    peek       at the datagrams that are there.  Nothing has happened; they are all there.
    commit     rows, the numbers of these        Killed after: those numbers are known, the same
               datagrams, and what is to be      datagrams are dropped; what was to be sent is sent
               said to loops, in one             once more, and loops know the numbers of what they
               transaction                       have had.
    consume    the datagrams                     As before, with fewer to drop.
    send       answers, stored messages          Sent again, dropped by who has them.

So an answer is never sent before the row that it is about is on the disk, and never twice. While
nothing can be stored (full disk, no permission) the numbers and what is to be said are in the
notebook instead, a memfd that lasts as long as the daemon: what has arrived is confirmed, what
would have to be stored is refused (`INTERNAL`), and storing is tried again every second. A file
that is no sound database is put aside and a new one begun. Each is logged once, and so is its end.

A batch that ends the historian (a bug, for what is in it) would end every successor. So after such
a death datagrams are taken one at a time, until the pair is empty, and the one that has ended three
in a row is *set aside*: into a file of its own, for who looks for the bug.

In its spare time it sorts what it has stored, indexes it, and forgets what is too old or too much.
Runs in the only thread of the attendant's process; `run_historian` is called in the child, once.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from prefork_chat import config, log
from prefork_chat.accounts.store import Store, StoreFailed
from prefork_chat.historian.batch import Batches, Unknowable
from prefork_chat.historian.claim import Claim
from prefork_chat.historian.mailing import Mailing
from prefork_chat.historian.upkeep import Upkeep
from prefork_chat.history.archive import Archive
from prefork_chat.history.schema import FILE_NAME, UnknownVersionError, put_aside
from prefork_chat.inheritance import senders
from prefork_chat.protocol import envelope
from prefork_chat.registry import table
from prefork_chat.registry.table import Order, WorkerState
from prefork_chat.worker.counters import follow_peeks
from prefork_chat.worker.journal import Journal, Record
from prefork_chat.worker.loop import INBOX_BYTES, beat_seconds

if TYPE_CHECKING:
    from types import FrameType

    from prefork_chat.inheritance import Attendance

EXIT_ORPHANED: Final = 1

MOST_BYTES: Final = 2 * 1024 * 1024
"""Of datagrams in one batch; a message that comes meanwhile waits until all of it is stored."""

RETRY_SECONDS: Final = 1.0
"""Between two tries to store, while that fails."""

AGAIN_SECONDS: Final = 0.5
"""Until somebody whom stored messages did not reach is sent them again, if he is here."""

CROWD: Final = 16
"""Messages in a batch from which on the next one is waited for a bit, so that it is larger: a
commit costs nearly the same for one as for a hundred."""

GATHER: Final = 3.0
"""Times as long as such a batch has taken; what comes meanwhile wakes nobody."""

LONGEST_GATHER_SECONDS: Final = 0.002

_MARK_SHIFT: Final = 10
_MARK_MASK: Final = (1 << 54) - 1  # what fits into the notebook's word


def run_historian(attendance: Attendance) -> int:
    """Write the history until told to end; returns the exit code of the process."""
    return _Historian(attendance).run()


class _Historian:
    """Owner: the process's only thread.

    `_archive` is None while the file is not open; `_retry_at` when to try again, inf: all is well.
    """

    def __init__(self, attendance: Attendance) -> None:
        self._attendance: Final = attendance
        self._row: Final = attendance.row
        self._log: Final = log.get_logger(generation=attendance.generation)
        self._outlet: Final = attendance.pairs.processes[attendance.p_id].outlet
        self._state_dir: Final = config.resolve_state_dir(attendance.config)
        self._path: Final = self._state_dir / FILE_NAME
        self._claim: Final = Claim(self._state_dir)
        self._epoll: Final = select.epoll()
        self._mailing: Final = Mailing(attendance, self._epoll)
        self._batches: Final = Batches(attendance, self._mailing, self._is_account)
        registry = attendance.registry
        self._notebook: Final = Journal(
            attendance.journal, senders(registry.workers, registry.threads)
        )
        self._taken: Final = dict(enumerate(self._notebook.taken()))
        self._beat_seconds: Final = beat_seconds(attendance.config.server.watchdog_seconds)
        self._accounts: Store | None = None
        self._archive: Archive | None = None
        self._upkeep: Upkeep | None = None
        self._failure = ""
        self._next_try = 0.0
        self._next_batch = 0.0
        self._next_check = 0.0
        self._callers: dict[bytes, float] = {}
        self._woken, self._waker = socket.socketpair()
        self._is_told_to_end = False
        self._is_deaf = False
        self._suspect: Final = self._notebook.suspect()
        self._is_wary = self._notebook.has_suspect

    # Life

    def run(self) -> int:
        """Go round until told to end; returns the exit code."""
        for end in (self._woken, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._note_end)
        follow_peeks(self._outlet)
        self._open()
        self._resume()
        for fd in (self._outlet, self._woken, self._attendance.supervisor_pidfd):
            self._epoll.register(fd, select.EPOLLIN)
        self._beat()
        self._row[table.STATE] = WorkerState.READY
        os.eventfd_write(self._attendance.news, 1)
        while not self._is_told_to_end:
            self._beat()
            if not self._wait():
                return EXIT_ORPHANED
            if not self._turn():
                self._use_spare_time()
        if Order(self._row[table.ORDER]) is Order.STOP:
            while self._turn():  # the workers have gone: what they left is all there is
                self._beat()
        if self._archive is not None:
            self._archive.close()
        return 0

    def _wait(self) -> bool:
        """Wait until there is something to do; False if the supervisor is gone."""
        if self._is_deaf != self._mailing.is_behind:
            self._is_deaf = self._mailing.is_behind
            self._epoll.modify(self._outlet, 0 if self._is_deaf else select.EPOLLIN)
        for fd, _ in self._epoll.poll(self._sleep_seconds()):
            if fd == self._attendance.supervisor_pidfd:
                return False
            if fd == self._woken.fileno():
                self._woken.recv(64)
            elif fd != self._outlet.fileno():
                self._mailing.unblock(fd)
        return True

    def _note_end(self, _number: int, _frame: FrameType | None) -> None:
        self._is_told_to_end = True

    def _beat(self) -> None:
        now = time.monotonic_ns()
        self._row[table.ROUTER_HEARTBEAT] = now
        self._row[table.loop_offset(0) + table.HEARTBEAT] = now

    def _sleep_seconds(self) -> float:
        now = time.monotonic()
        if self._archive is None:
            return max(0.0, min(self._beat_seconds, self._next_try - now))
        due = [at - now for at in self._callers.values()]
        if self._upkeep is not None:
            due.append(self._upkeep.wake_at() - now)
        return max(0.0, min(self._beat_seconds, *due)) if due else self._beat_seconds

    # The turn

    def _turn(self) -> bool:
        """Deal with what has come; False if nothing has."""
        self._gather()
        begun = now = time.monotonic()
        if self._failure and now >= self._next_try:
            self._open()
        due = [key for key, at in self._callers.items() if at <= now]
        taken: dict[int, int] = {}
        sections, count = ([], 0) if self._mailing.is_behind else self._peek(taken)
        last_id = self._archive.last_id if self._archive is not None else 0
        if not count and not self._mailing.is_behind:
            self._is_wary = False
        if not count and not (due and self._archive is not None):
            return False
        mark = _mark(taken)
        self._notebook.note_reading(mark)
        carry_out_without = self._batches.carry_out_without
        if is_suspect := mark == self._suspect:
            reason = "it has ended the historian again and again"
            self._put_aside(envelope.SECTION_SEPARATOR.join(sections), reason)
            carry_out_without = self._batches.give_up
        if not self._store(sections, due, taken, is_suspect=is_suspect):
            carry_out_without(sections)
            self._note(taken)
        self._taken.update(taken)
        for _ in range(count):
            os.read(self._outlet.fileno(), 1)
        self._mailing.flush()
        self._notebook.note_read()
        if self._archive is not None and self._archive.last_id - last_id >= CROWD:
            done = time.monotonic()
            self._next_batch = done + min(GATHER * (done - begun), LONGEST_GATHER_SECONDS)
        self._keep_tail_short()
        return True

    def _gather(self) -> None:
        """Let more come, if a lot came the last time."""
        early_seconds = self._next_batch - time.monotonic()
        if early_seconds > 0:
            time.sleep(early_seconds)

    def _peek(self, taken: dict[int, int]) -> tuple[list[bytes], int]:
        """Return the sections of new datagrams, and how many datagrams there were in all."""
        sections: list[bytes] = []
        count = size = 0
        is_new = False
        while size < MOST_BYTES:
            try:
                datagram = self._outlet.recv(INBOX_BYTES, socket.MSG_PEEK)
            except BlockingIOError:
                break
            count += 1
            size += len(datagram)
            for section in datagram[1:].split(envelope.SECTION_SEPARATOR):
                if section.startswith(envelope.NUMBER):
                    loop, number = envelope.parse_number(section)
                    is_new = number > taken.get(loop, self._taken.get(loop, 0))
                    if is_new:
                        taken[loop] = number
                elif is_new:
                    sections.append(section)
            if self._is_wary:
                break
        return sections, count

    def _store(
        self, sections: list[bytes], due: list[bytes], taken: dict[int, int], *, is_suspect: bool
    ) -> bool:
        """Commit the batch; False, and nothing of it has happened, if that cannot be.

        Of a suspect one nothing is stored but that it is dealt with, and nobody is called.
        """
        archive = self._archive
        if archive is None or self._upkeep is None:
            return False
        self._upkeep.expect()
        try:
            with archive.transaction(_now_ms()):
                if is_suspect:
                    self._batches.give_up(sections)
                else:
                    self._batches.carry_out(archive, sections, due)
                archive.note_turn(self._taken | taken, self._mailing.compose())
        except sqlite3.Error as error:
            self._mailing.discard()
            self._batches.returned.clear()
            self._fail(error)
            return False
        self._batches.owed.clear()
        self._notebook.note_taken(list(taken.items()))
        for key in due:
            del self._callers[key]
        again = time.monotonic() + AGAIN_SECONDS
        self._callers.update(dict.fromkeys(self._batches.returned, again))
        self._batches.returned.clear()
        return True

    def _note(self, taken: dict[int, int]) -> None:
        """Write down, where the daemon's memory lasts, what could not be written into the file."""
        self._notebook.commit(Record(0, list(taken.items()), datagrams=self._mailing.compose()))

    def _put_aside(self, data: bytes, reason: str) -> None:
        """Keep what cannot be stored, for who looks for the bug; tell the operator."""
        path = self._path.with_name(f"{FILE_NAME}.set-aside-{time.time_ns()}")
        self._log.error(log.HISTORY_SHELVED, path=str(path), reason=reason)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with suppress(OSError), open(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)

    # The file

    def _open(self) -> None:
        """Open the file, and go on where a predecessor was."""
        self._next_try = time.monotonic() + RETRY_SECONDS
        try:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim.take()
            archive = Archive(self._path, self._attendance.registry.identity, self._beat)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return
        history = self._attendance.config.history
        try:
            self._upkeep = Upkeep(archive, history, self._put_aside)
            for loop, number in archive.taken.items():
                self._taken[loop] = max(number, self._taken.get(loop, 0))
            self._callers = dict.fromkeys((key.encode() for key in archive.recipients()), 0.0)
        except sqlite3.Error as error:
            archive.close()
            self._fail(error)
            return
        self._archive = archive
        if self._failure:
            self._failure = ""
            self._log.info(log.HISTORY_RECOVERED)

    def _resume(self) -> None:
        """Send what a predecessor had to say, in the order of its numbers.

        It is in the file, or in the notebook if it could not be stored. What loops have had of it
        they drop.
        """
        record = self._notebook.load()
        datagrams = record.datagrams if record is not None else []
        if self._archive is not None:
            try:
                datagrams += self._archive.outgoing()
            except sqlite3.Error as error:
                self._fail(error)
        self._mailing.resume(sorted(datagrams, key=_number))

    def _fail(self, error: sqlite3.Error | OSError) -> None:
        """Go on without the file, and try again later; the operator is told once."""
        if self._archive is not None:
            with suppress(sqlite3.Error):
                self._archive.close()
            self._archive = self._upkeep = None
        self._next_try = time.monotonic() + RETRY_SECONDS
        if _is_broken(error):
            aside = put_aside(self._path, time.time())
            self._next_try = 0.0
            self._log.error(log.HISTORY_REPLACED, reason=str(error), path=str(aside))
        if not self._failure:
            self._failure = str(error)
            meaning = "messages between those who are here are not stored, others refused"
            self._log.error(
                log.HISTORY_FAILED, reason=str(error), path=str(self._path), meaning=meaning
            )

    def _use_spare_time(self) -> None:
        """Keep house a little; once in a beat see that the file is still ours."""
        if self._archive is None or self._upkeep is None:
            return
        now = time.monotonic()
        try:
            if now >= self._next_check:
                self._next_check = now + self._beat_seconds
                self._claim.take()
                self._archive.check()
            self._upkeep.advance(_now_ms())
        except (sqlite3.Error, OSError) as error:
            self._fail(error)

    def _keep_tail_short(self) -> None:
        if self._upkeep is None:
            return
        try:
            self._upkeep.keep_tail_short()
        except (sqlite3.Error, OSError) as error:
            self._fail(error)

    # Accounts

    def _is_account(self, key: bytes) -> bool:
        try:
            if self._accounts is None:
                self._accounts = Store.open(self._state_dir, create=False)
            return self._accounts is not None and self._accounts.find(key) is not None
        except StoreFailed as failure:
            if self._accounts is not None:
                self._accounts.close()
                self._accounts = None
            raise Unknowable from failure


def _mark(taken: dict[int, int]) -> int:
    """Return a number by which a batch is known again: that of its first datagram."""
    for loop, number in taken.items():
        return (number << _MARK_SHIFT | loop) & _MARK_MASK
    return 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _number(datagram: tuple[int, bytes]) -> int:
    """Return the number of a datagram of ours."""
    section = datagram[1][1:].partition(envelope.SECTION_SEPARATOR)[0]
    return envelope.parse_number(section)[1]


def _is_broken(error: sqlite3.Error | OSError) -> bool:
    """Say whether a file is no sound database, and will not become one."""
    if isinstance(error, UnknownVersionError) or not isinstance(error, sqlite3.DatabaseError):
        return False
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
