"""A crowd of clients on one epoll loop, which talk at full speed and enter all in an `Account`.

`Crowd.admit` connects and joins people, `talk` lets them chat at random for a while, with whatever
`acts` does to the daemon meanwhile; `settle` waits until all that has to come has come. One thread,
non-blocking sockets, work by the batch: fast enough not to be what one measures (about 100,000
messages a second).

A connection that ends before its greeting is opened again, and the same said once more: a worker
that dies between accept and handing the connection to the keeper takes it along, and nothing has
been read from it. `cut_short` counts them. Every other end is trouble, unless the client has left.
"""

from __future__ import annotations

import math
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from prefork_chat import __version__
from prefork_chat.protocol import replies
from tests.chaos.account import Trouble
from tests.harness.client import LineClient
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator

    from prefork_chat.addresses import Address
    from tests.chaos.account import Account, Person

_GREETING: Final = replies.greeting(__version__.encode())
_READ_BYTES: Final = 65536
_MOST_EVENTS: Final = 512
_LONGEST_POLL_SECONDS: Final = 0.05
_SLOW_SIZES: Final = {"receive_bytes": 4096, "segment_bytes": 536}
_QUIET_SECONDS: Final = 0.15
"""How long nothing must come after all has come: what is delivered twice may come late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How people talk.

    `in_flight`: commands of one person that wait for an answer; `filler_bytes`: the longest text
    besides number and checksum; shares: of CHATs with a tag, of PINGs between them, and, of those
    who are in rooms, of CHATs to one of these; instead of a PING they enter a room of their own and
    leave it again.
    """

    in_flight: int = 16
    filler_bytes: int = 60
    tagged_share: float = 0.5
    ping_share: float = 0.02
    room_share: float = 0.5


class Member:
    """One client. Owner: the crowd; tests may read `person`, and set `read_bytes`.

    `is_newcomer`: will take part in the talk when he has joined; `is_talking`: does.
    `opening` is what was said before the greeting came, None from then on; `outgoing` what the
    kernel has not taken yet; `interest` what epoll watches for, while `is_reading`; `rooms` those
    that he is in.
    """

    __slots__ = (
        "fd",
        "interest",
        "is_half_closed",
        "is_leaving",
        "is_newcomer",
        "is_reading",
        "is_slow",
        "is_talking",
        "opening",
        "outgoing",
        "person",
        "read_bytes",
        "rooms",
        "socket",
    )

    def __init__(self, person: Person, stream: socket.socket, is_slow: bool) -> None:
        self.person: Final = person
        self.is_slow: Final = is_slow
        self.read_bytes = _READ_BYTES
        self.is_half_closed = False
        self.is_leaving = False
        self.is_newcomer = False
        self.is_talking = False
        self.is_reading = True
        self.opening: bytes | None = b""
        self.outgoing = b""
        self.rooms: Final[list[bytes]] = []
        self.connected(stream)

    def connected(self, stream: socket.socket) -> None:
        """Begin with a new connection."""
        self.socket = stream
        self.fd = stream.fileno()
        self.interest = select.EPOLLIN


class Crowd:
    """People who talk to one daemon. A context manager: hangs up for all at its end."""

    def __init__(
        self,
        address: Address,
        account: Account,
        rng: random.Random,
        manner: Manner | None = None,
        password: str = "",
    ) -> None:
        """With a `password`, all join as the owners of accounts that have it."""
        self.account: Final = account
        self.cut_short = 0
        self.members: Final[list[Member]] = []
        """Those who are there and do not mean to leave: whom others talk to."""
        self._address: Final = address
        self._rng: Final = rng
        self._manner: Final = manner or Manner()
        self._password: Final = f" {password}".encode() if password else b""
        self._epoll: Final = select.epoll()
        self._by_fd: Final[dict[int, Member]] = {}
        self._is_talking = False
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up for all."""
        for member in self._by_fd.values():
            member.socket.close()
        self._epoll.close()

    # Coming and going

    def connect(self, name: str = "", *, is_slow: bool = False, takes_part: bool = False) -> Member:
        """Let somebody connect and ask for a name at once; does not wait for any answer.

        `is_slow`: whether the kernels are to have little room, about 30 KB, for what he does not
        read; `takes_part`: whether he is to talk, and to be talked to, as soon as he has joined.
        """
        self._count += 1
        key = (name or f"p{self._count}").encode()
        member = Member(self.account.enter(key), self._dial(is_slow), is_slow)
        member.is_newcomer = takes_part
        self._watch(member)
        self.account.command(member.person, b"", _GREETING)
        line = b"JOIN " + key + self._password
        self.say(member, self.account.command(member.person, line, b"OK JOIN " + key))
        return member

    def admit(self, count: int) -> list[Member]:
        """Let `count` people join; wait until all have; they take part from now on."""
        newcomers = [self.connect(takes_part=True) for _ in range(count)]
        assert self.settle(newcomers), f"not all of {count} could join"
        return newcomers

    def leave(self, member: Member) -> None:
        """Let somebody say LEAV; the end of his connection is expected from now on."""
        self._forget(member)
        member.is_leaving = True
        self.say(member, self.account.command(member.person, b"LEAV", b"OK LEAV"))

    def half_close(self, member: Member) -> None:
        """Let somebody say that nothing more will come of him, as `nc -N` does."""
        self._forget(member)
        member.is_leaving = member.is_half_closed = True
        self._push(member)

    def hold_still(self, member: Member) -> None:
        """Let somebody stop reading, if he is still there."""
        if member.fd < 0:
            return
        self._epoll.unregister(member.fd)
        member.is_reading = False

    def read_on(self, member: Member) -> None:
        """Let somebody read again who held still, if he is still there."""
        if member.fd < 0:
            return
        self._watch(member)
        member.is_reading = True

    def gather(self, members: Iterable[Member], room: bytes) -> None:
        """Let `members` enter a room, one after the other; they stay there."""
        for member in members:
            self.enter(member, room)
            assert self.settle([member]), f"{member.person.name!r} cannot enter {room!r}"

    def enter(self, member: Member, room: bytes) -> None:
        """Let somebody who does not talk yet enter a room after all others; he stays there."""
        self.say(member, self.account.enter_room(member.person, room))
        member.rooms.append(room)

    def take_part(self, member: Member) -> None:
        """Let somebody talk from now on, and be talked to."""
        member.is_talking = True
        self.members.append(member)
        self._chatter(member)

    def fall_silent(self, member: Member) -> None:
        """Let somebody talk no more, nor be talked to; he stays and listens."""
        self._forget(member)

    # Talking

    def chat(
        self, sender: Member, receiver: Member, count: int = 1, *, filler_bytes: int = 60
    ) -> None:
        """Let somebody say `count` messages, tagged and not in turns, all in one write."""
        compose = self.account.compose
        self.say(
            sender,
            b"".join(
                compose(sender.person, receiver.person, filler_bytes, is_tagged=n % 2 == 0)
                for n in range(count)
            ),
        )

    def talk(self, seconds: float, acts: Iterable[float] = ()) -> None:
        """Let all talk at full speed for `seconds`.

        `acts` is run alongside: it does something, yields after how many seconds it wants to go on,
        and so on.
        """
        self._is_talking = True
        for member in self.members:
            self._chatter(member)
        self._run(seconds, iter(acts))
        self._is_talking = False

    def settle(
        self, members: list[Member] | None = None, seconds: float = PATIENCE_SECONDS
    ) -> bool:
        """Wait until `members` (None: all) have got everything that has to come to them.

        Returns False if that is not so after `seconds`, or if some of it can never come: somebody
        has lost his connection.
        """
        deadline = time.monotonic() + seconds
        while not self._is_settled(members):
            if time.monotonic() >= deadline or self.account.troubles[Trouble.DISCONNECTED]:
                return False
            self.turn(_LONGEST_POLL_SECONDS)
        return True

    def finish(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Say nothing new, let all read what has to come and wait a moment; close the account."""
        for member in list(self._by_fd.values()):
            if not member.is_reading:
                self.read_on(member)
        self.settle(seconds=seconds)
        self._run(_QUIET_SECONDS, iter(()))
        self.account.close()

    def turn(self, seconds: float) -> None:
        """Wait at most so long for something to come, and take what is there."""
        for fd, event in self._epoll.poll(seconds, _MOST_EVENTS):
            member = self._by_fd[fd]
            if event & select.EPOLLOUT:
                self._push(member)
            if event & ~select.EPOLLOUT:
                self._hear(member)

    def _run(self, seconds: float, acts: Iterator[float]) -> None:
        now = time.monotonic()
        end, due = now + seconds, now
        while now < end:
            if now >= due:
                due = now + next(acts, math.inf)
            self.turn(max(0.0, min(_LONGEST_POLL_SECONDS, due - now, end - now)))
            now = time.monotonic()

    def _is_settled(self, members: list[Member] | None) -> bool:
        if members is None:
            return all(member.person.is_settled for member in self._by_fd.values())
        return all(member.person.is_settled for member in members)

    def _chatter(self, member: Member) -> None:
        """Let a member say so much that `in_flight` commands of his are open."""
        person, manner, members = member.person, self._manner, self.members
        count = manner.in_flight - person.open
        if count <= 0 or not member.is_talking:
            return
        random, compose = self._rng.random, self.account.compose
        lines = []
        for _ in range(count):
            receiver = members[int(random() * len(members))].person
            chance = random()
            if chance < manner.ping_share and member.rooms:
                lines += self._visit(person)
            elif chance < manner.ping_share:
                token = b"%d" % (1e9 * chance)
                lines.append(self.account.command(person, b"PING " + token, b"OK PING " + token))
            else:
                filler_bytes = int(random() * manner.filler_bytes)
                is_tagged = chance * (1 - manner.ping_share) < manner.tagged_share
                if member.rooms and random() < manner.room_share:
                    room = member.rooms[int(random() * len(member.rooms))]
                    compose_for = self.account.compose_for_room
                    lines.append(compose_for(person, room, filler_bytes, is_tagged=is_tagged))
                else:
                    lines.append(compose(person, receiver, filler_bytes, is_tagged=is_tagged))
        self.say(member, b"".join(lines))

    def _visit(self, person: Person) -> list[bytes]:
        """Let somebody enter a room in which nobody else is, and leave it."""
        room = b"#of-" + person.name
        return [
            self.account.command(person, b"ENTR " + room, b"OK ENTR %b n=1" % room),
            self.account.command(person, b"EXIT " + room, b"OK EXIT %b n=0" % room),
        ]

    # Bytes

    def _forget(self, member: Member) -> None:
        if member.is_talking:
            member.is_talking = False
            self.members.remove(member)

    def _dial(self, is_slow: bool) -> socket.socket:
        sizes = _SLOW_SIZES if is_slow else {}
        stream = LineClient.connect(self._address, **sizes).socket
        stream.setblocking(False)
        if stream.family != socket.AF_UNIX:  # half a line must not wait until the first is acked
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def _watch(self, member: Member) -> None:
        self._by_fd[member.fd] = member
        self._epoll.register(member.fd, member.interest)

    def say(self, member: Member, data: bytes) -> None:
        """Let somebody send bytes, of which the account knows."""
        if member.opening is not None:
            member.opening += data
        is_behind = bool(member.outgoing)
        member.outgoing += data
        if not is_behind:
            self._push(member)

    def _push(self, member: Member) -> None:
        """Send what there is to send, as far as the kernel takes it; nothing after the end."""
        if member.fd < 0:
            return
        try:
            member.outgoing = member.outgoing[member.socket.send(member.outgoing) :]
            if member.is_half_closed and not member.outgoing:
                member.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except ConnectionError:
            member.outgoing = b""  # reading tells the rest
        interest = select.EPOLLIN | select.EPOLLOUT if member.outgoing else select.EPOLLIN
        if interest != member.interest and member.is_reading:
            self._epoll.modify(member.fd, interest)
        member.interest = interest

    def _hear(self, member: Member) -> None:
        try:
            data = member.socket.recv(member.read_bytes)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._lose(member)
            return
        member.opening = None
        self.account.hear(member.person, data)
        if member.is_newcomer and not member.person.open:
            member.is_newcomer = False
            member.is_talking = True
            self.members.append(member)
        if self._is_talking:
            self._chatter(member)

    def _lose(self, member: Member) -> None:
        """Take the end of a connection: open it again, or enter it in the account."""
        del self._by_fd[member.fd]
        member.socket.close()
        if member.opening is not None:
            self.cut_short += 1
            opening, member.opening, member.outgoing = member.opening, b"", b""
            member.connected(self._dial(member.is_slow))
            self._watch(member)
            self.say(member, opening)
            return
        member.fd = -1
        self._forget(member)
        self.account.end(member.person, is_expected=member.is_leaving and not member.person.open)
