"""What came of a storm, and how it is told: the figures, and what was wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from prefork_chat import log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.account import Account
    from tests.harness.events import EventLog


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a storm. `adoption_ms`: from a worker's end to its successor's readiness."""

    title: str
    seed: int
    seconds: float
    account: Account
    cut_short: int
    struck: Counter[str]
    replaced: Counter[str]
    adoption_ms: list[float]
    leaks: list[str]

    @property
    def has_raged(self) -> bool:
        """True when somebody was hurt or replaced, as everywhere but in a calm."""
        return bool(self.replaced)

    def __str__(self) -> str:
        """The figures, for people."""
        account = self.account
        rate = account.delivered / self.seconds
        lines = [
            f"{self.title} ({self.seconds:.0f} s, seed {self.seed})",
            f"  {account.delivered:,} messages ({rate:,.0f}/s), {account.answered:,} other answers",
            f"  struck: {_counts(self.struck)}; workers ended: {_counts(self.replaced)}",
        ]
        if self.adoption_ms:
            lines.append(
                f"  end to ready: p50 {percentile(self.adoption_ms, 50):.0f} ms, "
                f"p99 {percentile(self.adoption_ms, 99):.0f} ms"
            )
        if account.refusals:
            refusals = {code.decode(): count for code, count in account.refusals.items()}
            lines.append(f"  refused, as they may be: {_counts(Counter(refusals))}")
        if self.cut_short:
            lines.append(f"  connections that ended before their greeting: {self.cut_short}")
        lines += [f"  LEAKED: {leak}" for leak in self.leaks]
        troubles = Counter({kind.value: count for kind, count in account.troubles.items()})
        lines.append(f"  WRONG: {_counts(troubles)}" if troubles else "  nothing wrong")
        return "\n".join([*lines, *(f"    {example}" for example in account.examples)])


def adoption_ms(events: EventLog) -> list[float]:
    """Return, for each successor, the milliseconds from its predecessor's end to its readiness."""
    ready = {_incarnation(event): event for event in events.events(log.WORKER_READY)}
    found = []
    for ended in events.events(log.WORKER_EXITED):
        p_id, generation = _incarnation(ended)
        successor = ready.get((p_id, generation + 1))
        if successor is not None:
            found.append((_time(successor) - _time(ended)) * 1000)
    return sorted(found)


def percentile(values: list[float], share: int) -> float:
    """Return the value below which `share` percent of the sorted `values` are."""
    return values[min(len(values) - 1, len(values) * share // 100)]


def _incarnation(event: Mapping[str, object]) -> tuple[int, int]:
    return int(str(event["p_id"])), int(str(event["generation"]))


def _time(event: Mapping[str, object]) -> float:
    return datetime.fromisoformat(str(event["timestamp"])).timestamp()


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in counts.items()) or "nobody"
