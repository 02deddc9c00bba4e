"""A scene of a few milliseconds with everything in it that a worker does for its clients.

Alice and bob talk; guests connect, join, talk and leave, one of them by hanging up; sam reads
nothing while more comes for him than his connection holds, so that a line is written in part, and
then reads; carol says half a line, and the other half later. The scene is played again and again on
one daemon, the worker of p_id 0 being killed somewhere in it each time, and its account must come
out exact. With two workers bob is with the other one.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from tests.chaos.account import Account
from tests.chaos.crowd import Crowd, Member

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

_FEW: Final = 4
_MANY: Final = 45
"""Long lines for sam: 43 KB, of which his connection holds 29."""

_LONG_BYTES: Final = 930
_TRIES: Final = 50


class Scene:
    """The cast, which stays for many plays."""

    def __init__(self, daemon: Daemon) -> None:
        """Let alice and bob take their places in a daemon that has just been started."""
        self.account: Final = Account()
        self.crowd: Final = Crowd(daemon.addresses[0], self.account, random.Random(0))
        self._daemon: Final = daemon
        self._alice: Final = self._seat("alice", 0)
        self._bob: Final = self._seat("bob", len(daemon.worker_pids()) - 1)
        self._carol: Final = self._seat("carol", 0)
        self._sam: Member | None = None
        self._plays = 0
        self._guests = 0

    def close(self) -> None:
        """Hang up for all."""
        self.crowd.close()

    def prepare(self) -> None:
        """Let a new sam come, at worker 0; the last one has read too much to be slow any more."""
        self._plays += 1
        self._sam = self._seat(f"sam{self._plays}", 0, is_slow=True)
        self.crowd.hold_still(self._sam)

    def play(self) -> str:
        """Play once, after `prepare`; return what did not come to its end, or an empty string."""
        crowd, sam = self.crowd, self._sam
        alice, bob, carol = self._alice, self._bob, self._carol
        assert sam is not None
        guests = [self._guest()]
        crowd.chat(alice, bob, _FEW)
        crowd.chat(alice, sam, _MANY, filler_bytes=_LONG_BYTES)
        crowd.chat(bob, alice, _FEW)
        crowd.chat(bob, sam, _FEW)
        # One says all at once and hangs up, as `printf … | nc -N` does.
        pipe = self._guest()
        crowd.chat(pipe, bob, _FEW)
        crowd.half_close(pipe)
        half = self._say_half(carol, bob)
        guests += [self._guest(), self._guest()]  # so that each worker accepts one at least
        if not crowd.settle(guests):
            return "guests do not join"
        for guest in guests:
            crowd.chat(guest, alice, _FEW)
            crowd.chat(bob, guest, _FEW)
            crowd.chat(alice, guest, _FEW)
        if not crowd.settle(guests):
            return "guests do not get what is theirs"
        for guest in guests:
            crowd.leave(guest)
        crowd.read_on(sam)
        crowd.say(carol, half)
        if not crowd.settle([alice, bob, carol, sam, pipe, *guests]):
            return "not everybody gets what is his"
        crowd.leave(sam)
        if not crowd.settle():
            return "who has left is not let go"
        return ""

    def go_on(self) -> str:
        """Let alice and bob exchange a word; return what did not come, or an empty string."""
        self.crowd.chat(self._alice, self._bob)
        self.crowd.chat(self._bob, self._alice)
        return "" if self.crowd.settle() else "alice and bob cannot go on"

    def _say_half(self, sender: Member, receiver: Member) -> bytes:
        """Let somebody say half a line; return the other half."""
        line = self.account.compose(sender.person, receiver.person, 100, is_tagged=True)
        middle = len(line) // 2
        self.crowd.say(sender, line[:middle])
        return line[middle:]

    def _guest(self) -> Member:
        self._guests += 1
        return self.crowd.connect(f"guest{self._guests}")

    def _seat(self, name: str, worker: int, *, is_slow: bool = False) -> Member:
        """Let somebody join at a certain worker."""
        for n in range(_TRIES):
            member = self.crowd.connect(f"{name}.{n}", is_slow=is_slow)
            assert self.crowd.settle([member]), f"{name} cannot join"
            if self._daemon.worker_of_socket(member.socket) == worker:
                return member
            self.crowd.leave(member)
        raise AssertionError(f"worker {worker} accepted none of {_TRIES} connections")
