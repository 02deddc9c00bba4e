"""How workers are replaced by their successors: one at a time, and how it is known that all are.

Pure decision of the supervisor's only thread; times are monotonic nanoseconds and are passed in.
Whoever wants workers replaced (a reload, an upgrade, somebody who recycles one) gets a `Round`,
which says how it went when it is over. As many rounds as like may be under way: a worker that is
the successor for one may have to go again for a later one, so nothing that is asked for meanwhile
is lost.

Nobody is told to go while any worker is not ready. Who has been told and has not gone 5 s later
gets SIGKILL, then at most one a second: his clients are adopted all the same. If a successor
crashes again and again, the round has failed: those not told yet stay as they are.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.registry.table import Order
from prefork_chat.supervisor.children import NANOSECONDS, Phase
from prefork_chat.supervisor.stopping import KILL_GAP_NS, Signal

if TYPE_CHECKING:
    from prefork_chat.supervisor.children import Child, Children

# One crash may be anybody's kill -9, and two may be bad luck.
CRASHES: Final = 3
# To hand over, a worker ends its turn and exits: milliseconds.
PATIENCE_NS: Final = 5 * NANOSECONDS


@dataclass(slots=True)
class Round:
    """Replace each p_id of `targets` if its worker is of that generation or an earlier one.

    `failure` is why it has failed, once it is over and has. Changed by `Replacing` only; `remark`
    is what whoever has begun it wants to have said at its end.
    """

    reason: str
    targets: dict[int, int]
    begun_ns: int
    remark: str = ""
    is_over: bool = False
    failure: str = ""


class Replacing:
    """The rounds under way. Owner: the supervisor's thread."""

    def __init__(self) -> None:
        self._rounds: list[Round] = []
        self._told_pid = 0
        self._kill_ns = 0

    def begin(self, reason: str, targets: dict[int, int], now_ns: int) -> Round:
        """Have the workers of `targets` (p_id: generation) replaced; return the new round."""
        round_ = Round(reason, targets, now_ns)
        self._rounds.append(round_)
        return round_

    @property
    def is_under_way(self) -> bool:
        """True while there is a round that is not over."""
        return bool(self._rounds)

    def settle(self, children: Children) -> list[Round]:
        """Return the rounds that are over now; they are forgotten here."""
        over = []
        for round_ in self._rounds:
            round_.failure = _failure(round_, children)
            if round_.failure or all(
                _is_replaced(children, p_id, generation)
                for p_id, generation in round_.targets.items()
            ):
                round_.is_over = True
                over.append(round_)
        self._rounds = [round_ for round_ in self._rounds if not round_.is_over]
        return over

    def abandon(self, failure: str) -> list[Round]:
        """End all rounds for this reason; return them."""
        over, self._rounds = self._rounds, []
        for round_ in over:
            round_.is_over, round_.failure = True, failure
        return over

    def check(self, children: Children, now_ns: int) -> list[Signal]:
        """Return the signals to send now; they count as sent, and SIGTERM as HAND_OVER.

        Nobody is told twice. Who has been told something else since is not waited for.
        """
        told = children.find(self._told_pid)
        if told is not None and told.told is Order.HAND_OVER:
            return self._press(told, now_ns)
        self._told_pid = 0
        child = self._next(children)
        if child is None:
            return []
        child.told = Order.HAND_OVER
        self._told_pid = child.pid
        self._kill_ns = now_ns + PATIENCE_NS
        return [Signal(child.pid, signal.SIGTERM), Signal(child.pid, signal.SIGCONT)]

    def next_check_ns(self) -> int | None:
        """Return when `check` has something new to say if nothing happens before."""
        return self._kill_ns if self._told_pid else None

    def _press(self, told: Child, now_ns: int) -> list[Signal]:
        if now_ns < self._kill_ns:
            return []
        self._kill_ns = now_ns + KILL_GAP_NS
        return [Signal(told.pid, signal.SIGKILL)]

    def _next(self, children: Children) -> Child | None:
        """Return who is to go now: the first of those that are left, if all are ready."""
        wanted = [child for child in children if not children.is_surplus(child)]
        if any(child.phase is not Phase.READY for child in wanted):
            return None
        for child in wanted:
            generations = [round_.targets.get(child.p_id, 0) for round_ in self._rounds]
            if child.generation <= max(generations, default=0):
                return child
        return None


def _is_replaced(children: Children, p_id: int, generation: int) -> bool:
    """Say whether a successor serves, or none is to come."""
    child = children[p_id]
    if children.is_surplus(child):
        return True
    return child.phase is Phase.READY and child.generation > generation


def _failure(round_: Round, children: Children) -> str:
    """Return what is wrong with the successors, "" if nothing is."""
    most = min(CRASHES, children.policy.max_crashes)
    for p_id, generation in round_.targets.items():
        child = children[p_id]
        is_new = child.generation > generation
        if is_new and child.crashes >= most and child.phase is not Phase.READY:
            return f"the new worker {p_id} has crashed {child.crashes} times in a row"
    return ""
