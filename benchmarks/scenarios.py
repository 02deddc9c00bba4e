"""The standard scenarios: which questions are asked of the daemon.

A table and nothing else; the command line may change any number in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.load import Load


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load with a name, and the question that it answers."""

    name: str
    question: str
    load: Load


SCENARIOS: Final = (
    Scenario("busy", "200 clients, 32 messages in flight each, quiet", Load()),
    Scenario("single", "200 clients, 1 message in flight each, quiet", Load(in_flight=1)),
    Scenario("busy-receipts", "as busy, every message with its OK CHAT", Load(receipts=True)),
    Scenario(
        "single-receipts",
        "as single, every message with its OK CHAT",
        Load(in_flight=1, receipts=True),
    ),
    Scenario("latency", "200 clients, 5,000 messages a second in all", Load(rate=5000)),
    Scenario(
        "idle",
        "10,000 clients that are joined and silent",
        Load(mode="idle", clients=10_000),
    ),
    Scenario("joins", "connect, JOIN, LEAV, 64 at a time", Load(mode="join")),
)
