"""One loop: an epoll loop over many clients, and the hot path of the whole daemon.

A *turn* is one pass: poll, read every client that has something to say and route its lines, deliver
what came for our clients, write once to every client that got something, settle the receipts, and
send one datagram to every loop that we have something for. Read this file from top to bottom to
follow a line from socket to socket.

Runs in the thread that has the lead (`worker.lead`); other threads may only ask it for something
(`welcome`, `foster`, `stop` and their like) and how it is (`load`, `is_deserted`).
Everything is non-blocking except the registry's write semaphore at JOIN and LEAV (microseconds, or
until the watchdog has killed a stopped holder). Work is done on batches: a line that crosses this
file costs a split, a dictionary look-up and an append on either side.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from functools import partial
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, epoll
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING

from prefork_chat import __version__
from prefork_chat.chat import outcomes
from prefork_chat.chat.commands import execute
from prefork_chat.chat.effects import Route
from prefork_chat.inheritance import senders
from prefork_chat.protocol import envelope, replies
from prefork_chat.protocol.decoder import Decoder, measure
from prefork_chat.protocol.envelope import Origin
from prefork_chat.protocol.names import fold
from prefork_chat.protocol.replies import Code
from prefork_chat.registry import table
from prefork_chat.registry.consoles import WATCHED
from prefork_chat.worker import counters, progress
from prefork_chat.worker.adoption import Adopted, Adoption
from prefork_chat.worker.clients import Clients
from prefork_chat.worker.connection import STANDING, Pause
from prefork_chat.worker.credentials import Credentials
from prefork_chat.worker.departures import Departures
from prefork_chat.worker.desk import Desk, Staff
from prefork_chat.worker.events import Events
from prefork_chat.worker.inquiries import Inquiries
from prefork_chat.worker.journal import Journal
from prefork_chat.worker.leaving import Leaving
from prefork_chat.worker.operator import Operator
from prefork_chat.worker.pace import Pace
from prefork_chat.worker.passages import Passages
from prefork_chat.worker.receipts import Careful, Receipts
from prefork_chat.worker.rooms import Rooms
from prefork_chat.worker.routes import Routes
from prefork_chat.worker.transaction import Parts, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_chat.inheritance import Inheritance
    from prefork_chat.keeping import Keep
    from prefork_chat.registry.slots import Held
    from prefork_chat.worker.backroom import Backroom
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.outbox import Outbox

READ_BYTES = 16 * 1024
"""Read from one client in one turn: a batch of 200 lines, and no flood starves the others."""

INBOX_BYTES = 128 * 1024
"""More than the largest datagram: a full batch and the largest section (about 62 KB) after it."""

INBOX_DATAGRAMS = 32
"""Datagrams taken in one turn."""

HUNG_UP = EPOLLRDHUP | EPOLLHUP
"""The peer sends no more; what it sent before may still be unread."""

MOST_EVENTS = 256
"""Events of one poll. Measured: fewer cost more polls under load, more gain nothing."""

MOST_ORIGINS = 16_384
"""Parsed origins remembered; above it the cache starts anew."""

LONGEST_BEAT_SECONDS = 1.0
"""The longest that a loop or the router sleeps, so that its heartbeat shows that it lives."""

BEATS = 4
"""Heartbeats of an idle worker in the time that the watchdog gives it, if that is short."""

QUIET_SECONDS = 0.1
"""How long nothing must come before a stopping or deserted loop ends: then all that was under way
is there, or nearly always: see `supervisor.mail` for the rest."""


def beat_seconds(watchdog_seconds: float) -> float:
    """Return how long a thread may sleep under a watchdog of so many seconds."""
    return min(LONGEST_BEAT_SECONDS, watchdog_seconds / BEATS)


class Loop:
    """Loop (p_id, t_id): owner of its clients, its outboxes and its heartbeat; a `Station`."""

    def __init__(
        self,
        inheritance: Inheritance,
        t_id: int,
        backroom: Backroom,
        wake_worker: Callable[[], None],
    ) -> None:
        """`wake_worker` is called, in the lead's thread, when `is_over` turns true."""
        config = inheritance.config
        p_id = inheritance.p_id
        self._inheritance = inheritance
        self._wake_worker = wake_worker
        self._p_id, self._t_id = p_id, t_id
        self._beat_seconds = beat_seconds(config.server.watchdog_seconds)
        self._pending_limit = config.limits.client_pending_bytes
        self._is_exact = config.server.durability == "exact"
        self._flags = socket.MSG_PEEK if self._is_exact else 0
        self._block = inheritance.table.row(p_id)[table.loop_offset(t_id) :]
        self._epoll = epoll()
        self._inbox = inheritance.pairs.loops[p_id][t_id].outlet
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._inbox, EPOLLIN)
        self._epoll.register(self._wake, EPOLLIN)
        self._events = Events(inheritance, t_id)
        self._clients = Clients(self._epoll, inheritance, t_id, self._events)
        self._routes = Routes(inheritance, t_id, self._epoll, self._clients)
        self._receipts = Receipts(inheritance, t_id, self._clients, self._routes)
        self._departures = Departures(self._clients, config.server.login_seconds)
        numbered = senders(inheritance.table.workers, inheritance.table.threads)
        self._journal = Journal(inheritance.journals[t_id], numbered)
        passages = Passages(inheritance, t_id, self._clients, self._receipts, self._journal)
        self._rooms = Rooms(inheritance, t_id, self._clients, self._routes, passages)
        self._inquiries = Inquiries(backroom.clerks, self._clients, self._rouse)
        self._operator = Operator(inheritance, self._clients, self._departures, self._events)
        credentials = Credentials(inheritance, backroom.logins)
        staff = Staff(self._departures, self._rooms, self._inquiries, credentials, self._operator)
        self._desk = Desk(inheritance, self._clients, staff)
        self._pace = Pace(self._clients, config.limits)
        self._consoles = inheritance.registry.consoles.words
        self._greeting = replies.greeting(
            __version__.encode(), is_seen=config.operator.see_messages
        )
        self._parts = Parts(
            inheritance.registry,
            self._journal,
            self._clients,
            self._routes,
            self._receipts,
            self._departures,
            self._rooms,
        )
        self._transaction = Transaction(self._parts, self._inbox, config)
        self._adoption = Adoption(inheritance, t_id, self._parts, self._transaction)
        self._leaving = Leaving(inheritance, t_id, self._parts)
        self._taken: list[int] = []
        self._origins: dict[bytes, Origin] = {}
        self._newcomers: deque[Connection] = deque()
        self._given: deque[Keep] = deque()
        self._stop_by: float | None = None
        self._is_stopping = False
        self._welcomes_nobody = False
        self._is_handing_over = False
        self._is_leaving = self._ends_deserted = False
        self._inbox_at = 0.0
        self._lines = self._refused = 0
        self.turn_at = 0.0
        self.is_over = False

    # From other threads

    @property
    def load(self) -> int:
        """Clients that this loop has, those on their way to or from it included (any thread)."""
        coming = len(self._newcomers) + len(self._given)
        return coming + self._clients.count + len(self._clients.released)

    @property
    def is_deserted(self) -> bool:
        """True when nobody is here and nothing has come or gone for a moment (any thread)."""
        return not self.load and not self._rooms.is_waiting and self._is_quiet(monotonic())

    def adopt(self, sessions: Sequence[Held]) -> Adopted:
        """Take over the sessions of the predecessor (main thread, before `run`)."""
        adopted = self._adoption.run(sessions, partial(self._greet, now=monotonic()))
        self._inbox_at = monotonic()
        self._taken = self._journal.taken()
        self._events.announce(self._taken)
        counters.follow_peeks(self._inbox)
        return adopted

    def welcome(self, connections: Sequence[Connection]) -> None:
        """Hand freshly accepted clients over (acceptor thread)."""
        self._newcomers.extend(connections)
        self._rouse()

    def foster(self, given: Keep) -> None:
        """Hand over a client that another worker has released (main thread)."""
        self._given.append(given)
        self._rouse()

    def leave(self) -> None:
        """Ask the loop to move its clients to other workers (any thread)."""
        self._is_leaving = True
        self._rouse()

    def end_deserted(self) -> None:
        """Ask the loop to end when it is deserted (any thread)."""
        self._ends_deserted = True
        self._rouse()

    def stop(self, stop_by: float) -> None:
        """Ask the loop to say good-bye and end, at monotonic time `stop_by` at the latest."""
        self._stop_by = stop_by
        self._rouse()

    def welcome_nobody(self) -> None:
        """Tell the loop that the acceptor has given away its last client (main thread)."""
        self._welcomes_nobody = True
        self._rouse()

    def hand_over(self) -> None:
        """Ask the loop to end after this turn, and leave its clients to a successor."""
        if not self._is_exact:
            self._inquiries.close()
        self._is_handing_over = True
        self._rouse()

    def _rouse(self) -> None:
        """Make the loop look around (any thread)."""
        os.eventfd_write(self._wake, 1)

    # The turn

    def fileno(self) -> int:
        """Return the descriptor that is readable while something has come."""
        return self._epoll.fileno()

    def take_turn(self) -> bool:
        """Turn, if something has come or it is time; end if that was asked for (by the lead)."""
        if self._newcomers:  # before we ask: they may have said something already
            self._greet_newcomers(monotonic())
        events = self._epoll.poll(0, MOST_EVENTS)
        now = monotonic()
        if not events and now < self.turn_at:
            return False
        if self._is_stopping and self._is_done(now):
            self._hang_up()
        elif self._may_hand_over() or (self._ends_deserted and self.is_deserted):
            self._transaction.hand_over()
        else:
            self._turn(events, now)
            self.turn_at = self._next_turn_at()
            return False
        self.is_over = True
        self._wake_worker()
        return False

    def _turn(self, events: list[tuple[int, int]], now: float) -> None:
        by_fd = self._clients.by_fd
        self._events.is_watched = self._consoles[WATCHED]
        for fd, event in self._clients.begin_turn(events):
            connection = by_fd.get(fd)
            if connection is None:
                self._attend(fd, now)
            elif event == EPOLLIN and not connection.pauses:
                self._read(connection, event, now)
            else:
                self._look_after(connection, event, now)
        while own := self._routes.own.take():
            for origin, lines in own:
                self._deliver(origin, lines)
        if not self._transaction.is_empty:
            self._transaction.carry_out()
        if self._events.are_due:
            self._events.publish()
        self._look_at_the_clock(now)
        if self._is_leaving and self._transaction.is_empty:
            self._leaving.advance(now)

    def _look_after(self, connection: Connection, event: int, now: float) -> None:
        """Handle what else there is of a client: it takes bytes again, it hung up, it is paused."""
        if event & EPOLLOUT:
            self._transaction.drain(connection)
            self._rooms.catch_up(connection)
        if connection.fd < 0:
            return
        if connection.pauses:
            if event & (EPOLLHUP | EPOLLERR) and connection.pauses != Pause.INQUIRY.value:
                self._transaction.lose(connection)
        elif event & ~EPOLLOUT:
            self._read(connection, event, now)

    def _attend(self, fd: int, now: float) -> None:
        """Handle an event that is not a client's."""
        if fd == self._inbox.fileno():
            self._inbox_at = now
            self._read_inbox()
        elif fd == self._wake:
            os.eventfd_read(self._wake)
            self._greet_newcomers(now)
            self._foster_given(now)
            if self._stop_by is not None and not self._is_stopping:
                self._begin_to_stop(now)
        else:
            self._routes.unblock(fd)

    # Reading: from a client's bytes to lines in outboxes

    def _read(self, connection: Connection, event: int, now: float) -> None:  # noqa: C901, PLR0912, PLR0915
        """Look at one chunk of a client and route its lines; the codec makes clean lines of it."""
        if self._rooms.is_full:
            self._clients.unread[connection.fd] = event
            return
        rest = self._take_up_reading(connection) if connection.dealt < 0 else b""
        try:
            chunk = rest or connection.socket.recv(READ_BYTES, self._flags)
        except BlockingIOError:
            return
        except OSError:
            self._transaction.lose(connection)
            return
        if not chunk:
            self._departures.begin(connection, now)
            return
        self._journal.note_reading(connection.slot)
        decoder = connection.decoder
        partial = decoder.partial
        lines = decoder.feed(chunk)
        self._lines += len(lines)
        routes = self._routes.by_name
        owners = self._routes.owners
        outbox: Outbox | None
        origin = connection.origin
        filled: list[Outbox] = []
        for line in lines:
            try:
                verb, destination, message = line.split(b" ", 2)
            except ValueError:
                verb = destination = message = b""
            if verb == b"CHAT" and message and origin is not None:
                try:
                    outbox, slot, owner = routes[destination]
                    if owners[slot] != owner:
                        outbox = self._routes.find(destination)
                except KeyError:
                    outbox = self._routes.find(destination)
                if outbox is not None:
                    if not outbox.lines:
                        filled.append(outbox)
                    outbox.lines.append(line)
                    continue
            self._execute(connection, line, filled, now)
            if connection.pauses & STANDING:
                break
            origin = connection.origin
        if filled:
            self._seal(connection, filled)
        if connection.pauses & STANDING:
            done = next(index for index, other in enumerate(lines) if other is line)
            size = self._stop_before(connection, partial + chunk, done)
            self._lines -= len(lines) - done
            del lines[done:]
        elif connection.is_followed:
            size = len(partial) + len(chunk) - len(decoder.partial)
        elif self._is_exact:
            size = len(chunk) - decoder.forget_partial()
        else:
            size = len(chunk)
        self._transaction.inputs.append((connection, size, len(chunk)))
        if event & HUNG_UP or len(chunk) == READ_BYTES or rest:
            self._read_on(connection, size, event, now)
        if self._pace.is_limited:
            self._pace.charge(connection, len(lines), now)

    def _take_up_reading(self, connection: Connection) -> bytes:
        """Begin to read a client, or go on behind what was dealt with.

        Returns what is to be looked at before what the kernel has.
        """
        self._transaction.take_up_reading(connection)
        if connection.inquiry is None:
            return b""
        rest, connection.inquiry.rest = connection.inquiry.rest, b""
        return rest

    def _stop_before(self, connection: Connection, data: bytes, done: int) -> int:
        """Return how many bytes of the data come before the line that is not to be dealt with.

        By it its client leaves, or has asked a question. It stays in the kernel until good-bye has
        been said, or the question is answered, so no kill makes us forget it.
        """
        state = self._inheritance.registry.progress[connection.slot] & progress.DECODER
        size, state = measure(state, data, done)
        connection.decoder = Decoder(state)
        if connection.inquiry is not None and not self._is_exact:
            connection.inquiry.rest = data[size:]
        return size

    def _read_on(self, connection: Connection, size: int, event: int, now: float) -> None:
        """See to it that what we have not looked at is read, and that an end of file is seen.

        With half a line before it an end of file cannot always be read, only noticed.
        """
        if connection.is_standing:
            return
        if size or connection.is_followed:
            self._clients.unread[connection.fd] = event
        elif event & HUNG_UP:
            self._departures.begin(connection, now)

    def _seal(self, connection: Connection, filled: list[Outbox]) -> None:
        """Close what a client has put into outboxes as sections of its own."""
        origin = connection.origin
        if origin is None:
            return
        for outbox in filled:
            if not origin.is_quiet:
                connection.outstanding += len(outbox.lines)
            outbox.seal(origin)
            self._routes.hold_back(connection, outbox)
        filled.clear()

    def _execute(
        self, connection: Connection, line: bytes, filled: list[Outbox], now: float
    ) -> None:
        """Carry out a line that is not a plain CHAT to somebody who is here."""
        if connection.session.muted:
            self._operator.reconsider(connection)
        effect = execute(connection.session, line)
        if not isinstance(effect, Route):
            self._seal(connection, filled)
            was_registered = connection.session.registered
            self._desk.carry_out(connection, effect, now)
            if connection.session.registered and not was_registered:
                self._receipts.storing.call(connection)
            return
        outbox = self._routes.find(effect.dest)
        if outbox is None:
            refusal = outcomes.undelivered(Code.NOUSER, effect.dest, effect.tag)
            self._clients.say(connection, refusal)
            return
        if connection.origin is None:
            connection.origin = connection.introduce(self._p_id, self._t_id)
        if not outbox.lines:
            filled.append(outbox)
        outbox.lines.append(envelope.pack_line(effect.tag, effect.dest, effect.message))

    # Delivering: from a datagram to the clients of this loop

    def _read_inbox(self) -> None:
        """Look at datagrams from our thread-level pair and open their sections."""
        taken = self._taken
        is_new = True
        for _ in range(INBOX_DATAGRAMS):
            if self._rooms.is_full:
                return
            try:
                datagram = self._inbox.recv(INBOX_BYTES, self._flags)
            except BlockingIOError:
                return
            self._transaction.inbox += 1
            for section in datagram[1:].split(envelope.SECTION_SEPARATOR):
                if section.startswith(envelope.NUMBER):
                    loop, number = envelope.parse_number(section)
                    is_new = number > taken[loop]
                    if is_new:
                        taken[loop] = self._transaction.taken[loop] = number
                elif is_new:
                    self._open(section)

    def _open(self, section: bytes) -> None:
        """Do what a section of a datagram is for."""
        header, _, body = section.partition(b"\n")
        if header.startswith(envelope.MESSAGES):
            self._deliver(self._origin(header), body.split(b"\n"))
        elif header.startswith(envelope.ROOM_BATCH):
            batch, origin, messages = envelope.parse_room_batch(header, body)
            self._rooms.receive_batch(batch, self._origin(origin), messages)
        elif header.startswith(envelope.PRESENCE):
            self._rooms.presence.receive(*envelope.parse_presence(header, body))
        elif header.startswith(envelope.REACHED):
            self._rooms.receive_reached(envelope.parse_reached(section))
        elif header.startswith(envelope.DIRECTIVE):
            self._operator.obey(header, body, self._inbox_at)
        else:
            self._receipts.receive(*envelope.parse_receipts(header), body)

    def _origin(self, header: bytes) -> Origin:
        origin = self._origins.get(header)
        if origin is None:
            if len(self._origins) >= MOST_ORIGINS:
                self._origins.clear()
            origin = self._origins[header] = Origin.parse(header)
        return origin

    def _deliver(self, origin: Origin, lines: list[bytes]) -> None:
        """Hand the message lines of one origin to our clients, by name.

        A tagged line has its verb where others have the destination: CHAT, which in upper case is
        no key of `present`.
        """
        if origin.is_registered and self._receipts.storing.is_on:
            self._deliver_for_history(origin, lines)
            return
        present = self._clients.present
        touched = self._clients.touched
        prefix = origin.prefix
        accepted = []
        careful = None
        for line in lines:
            _, destination, message = line.split(b" ", 2)
            connection = present.get(destination)
            if connection is None:
                careful = careful or Careful()
                self._deliver_carefully(line, prefix, careful)
                continue
            out = connection.out
            if not out:
                touched.append(connection)
            out.append(prefix + message)
            accepted.append(destination)
        tagged: list[tuple[bytes, bytes]] = []
        if careful is not None:
            self._receipts.turn_back(origin, careful)
            tagged = careful.accepted
        if accepted or tagged:
            self._receipts.deliveries.append((origin, accepted, tagged))
        if self._events.is_watched:
            self._events.said(origin, lines if careful is None else careful.delivered(lines))

    def _deliver_for_history(self, origin: Origin, lines: list[bytes]) -> None:
        """Hand over what an account says; what it says to accounts is to be stored.

        From the first line on that has a tag, or is for somebody else, line by line.
        """
        storing = self._receipts.storing
        present = self._clients.present
        touched = self._clients.touched
        prefix = origin.prefix
        accepted = []
        for line in () if storing.is_behind else lines:
            _, destination, message = line.split(b" ", 2)
            connection = present.get(destination)
            if connection is None or not connection.session.registered:
                break
            out = connection.out
            if not out:
                touched.append(connection)
            out.append(prefix + message)
            accepted.append(destination)
        if accepted:
            others, lines = lines[len(accepted) :], lines[: len(accepted)]
            storing.arrange(origin, lines, outcomes.all_delivered(accepted))
            if self._events.is_watched:
                self._events.said(origin, lines)
            lines = others
        if lines:
            self._deliver_lines_for_history(origin, lines)

    def _deliver_lines_for_history(self, origin: Origin, lines: list[bytes]) -> None:
        careful = Careful(is_for_history=True)
        for line in lines:
            self._deliver_carefully(line, origin.prefix, careful)
        self._receipts.turn_back(origin, careful)
        if careful.accepted:
            self._receipts.deliveries.append((origin, [], careful.accepted))
        if careful.filed:
            receipts = b"\n".join(careful.receipts)
            self._receipts.storing.arrange(origin, careful.filed, receipts)
        if self._events.is_watched:
            self._events.said(origin, careful.delivered(lines))

    def _deliver_carefully(self, line: bytes, prefix: bytes, careful: Careful) -> None:
        """Deliver a line with a tag, to a name in other letters, to a slow reader, to nobody."""
        tag, destination, message = envelope.parse_line(line)
        connection = self._clients.find(fold(destination))
        if connection is None:
            careful.strays.append(line)
            return
        backlog = connection.backlog
        if backlog is not None and backlog.pending_bytes >= self._pending_limit:
            self._refused += 1
            careful.refused.append(line)
            careful.refusals.append(outcomes.undelivered(Code.BUSY, destination, tag))
            return
        is_to_be_stored = careful.is_for_history and connection.session.registered
        if is_to_be_stored and self._receipts.storing.is_behind:
            careful.refused.append(line)
            careful.refusals.append(outcomes.undelivered(Code.BUSY, destination, tag))
            return
        self._clients.say(connection, prefix + message)
        if is_to_be_stored:
            careful.filed.append(line)
            careful.receipts.append(outcomes.delivered(destination, tag))
        else:
            careful.accepted.append((tag, destination))

    # Comings and goings

    def _greet_newcomers(self, now: float) -> None:
        while self._newcomers:
            connection = self._newcomers[0]
            self._transaction.take_up_reading(connection)
            self._clients.add(connection)
            self._newcomers.popleft()  # only now: `load` must not miss it
            self._greet(connection, now)

    def _foster_given(self, now: float) -> None:
        while self._given:
            connection = self._adoption.foster(self._given[0], now)
            self._given.popleft()
            if connection is not None and self._is_stopping:
                self._say_stopping(connection)

    def _greet(self, connection: Connection, now: float) -> None:
        """Say hello to a client that has not heard it yet."""
        connection.flags |= progress.GREETED
        self._clients.say(connection, self._greeting)
        self._departures.expect_login(connection, now)
        if self._is_stopping:
            self._say_stopping(connection)

    def _begin_to_stop(self, now: float) -> None:
        self._is_stopping = True
        self._inbox_at = now
        if self._is_leaving:
            self._is_leaving = False
            self._leaving.recall(now)
        for connection in self._clients.everybody():
            self._say_stopping(connection)

    def _say_stopping(self, connection: Connection) -> None:
        self._clients.pause(connection, Pause.STOPPING)
        self._clients.say(connection, outcomes.going_down())

    def _hang_up(self) -> None:
        """End with the last client closed."""
        for connection in list(self._clients.everybody()):
            self._transaction.lose(connection)
        self._transaction.carry_out()

    def _is_done(self, now: float) -> bool:
        """Say whether a stopping loop has nothing left to do, or no time left.

        While no worker has any client, nothing can be under way: an idle daemon ends at once.
        """
        if self._stop_by is not None and now >= self._stop_by:
            return True
        if self._welcomes_nobody and not self._inheritance.registry.claimed:
            return self._is_idle
        return self._is_quiet(now) and not any(
            connection.backlog for connection in self._clients.by_fd.values()
        )

    def _is_quiet(self, now: float) -> bool:
        """Say whether nothing has come of late, and nothing waits to be sent or done."""
        return now - self._inbox_at >= QUIET_SECONDS and self._is_idle

    @property
    def _is_idle(self) -> bool:
        """True while nothing waits to be sent or done."""
        return self._routes.is_empty and not self._has_work

    def _may_hand_over(self) -> bool:
        """Say whether the loop is to end now and keeps nothing to itself.

        In fast mode lines whose questions are open are in our memory only, passwords among them.
        """
        return self._is_handing_over and (self._is_exact or self._inquiries.are_over(monotonic()))

    # The clock

    @property
    def _has_work(self) -> bool:
        """True when the next turn must not wait for an event."""
        return bool(self._clients.unread) or not self._transaction.is_empty

    def _next_turn_at(self) -> float:
        """Return when the next turn is due, if nothing comes before."""
        if self._has_work:
            return 0.0
        wake_at = min(
            self._departures.wake_at(), self._pace.wake_at(), self._rooms.presence.wake_at()
        )
        now = monotonic()
        if self._is_stopping and self._is_done(now):
            return now
        seconds = self._beat_seconds
        if self._is_leaving:
            seconds = min(seconds, self._leaving.wait_seconds)
        if self._is_stopping or self._ends_deserted:
            seconds = min(seconds, QUIET_SECONDS / 4)
        return min(wake_at, now + seconds)

    def _look_at_the_clock(self, now: float) -> None:
        """Do what is due, free the names of those who went, beat, and publish the counters."""
        self._pace.release(now)
        self._rooms.presence.tell(now)
        if self._inquiries.answers:
            self._inquiries.take_answers()
        for connection in self._departures.due(now):
            self._transaction.lose(connection)
        block = self._block
        block[table.CLIENTS] = self._clients.count
        block[table.LINES] = self._lines
        block[table.DELIVERED] = self._receipts.delivered
        block[table.REFUSED] = self._refused
        block[table.BOUNCED] = self._receipts.bounced
        block[table.HEARTBEAT] = monotonic_ns()
