"""One way in for other programs: a source, the rules, a pace, and a speaker that says it.

Decides when something is taken: only while the speaker can say it at once. So what nobody can say
yet stays in the FIFO or queue, and its writers wait as they would for any reader; but not for ever:
after PATIENCE_SECONDS what comes is thrown away, counted and logged, until it can be said again.

A line that is not said is logged with its reason, never with its text, and at most once a second:
`more` says how many others there were.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.errors import ChannelError
from prefork_chat.log import INGRESS_DROPPED, INGRESS_FAILED, INGRESS_REJECTED, get_logger
from prefork_chat.observing.snapshot import IngressCounts
from prefork_chat.porter.rules import Accepted, Rules
from prefork_chat.porter.sources import FifoSource, PosixSource, SysvSource
from prefork_chat.porter.speaker import Speaker

if TYPE_CHECKING:
    from prefork_chat.config import IngressConfig
    from prefork_chat.porter.sources import Source

PATIENCE_SECONDS: Final = 10.0
"""How long writers wait for a chat that does not take what they say."""

LOOK_SECONDS: Final = 0.01
"""How often a source without a descriptor is looked at, for a second after something has come."""

IDLE_LOOK_SECONDS: Final = 0.1
"""How often it is looked at else: 0.4 % of a CPU (2 % with 0.02, measured)."""

_BUSY_SECONDS: Final = 1.0

_MOST_TAKEN: Final = 64  # in one turn: other ways in have theirs, too
_RETRY_SECONDS: Final = 1.0
_LOG_SECONDS: Final = 1.0


class Ingress:
    """One `[[ingress]]`. Owner: the porter's thread."""

    def __init__(self, config: IngressConfig, directory: Path) -> None:
        """`directory`: the runtime directory."""
        self.speaker: Final = Speaker(directory, config.name)
        self._config: Final = config
        self._rules: Final = Rules(config.to)
        self._log: Final = get_logger(ingress=config.name)
        self._source: Source | None = None
        self._open_at = 0.0
        self._has_failed = False
        self._taken_at = 0.0
        self._read: deque[bytes] = deque()
        self._credit = float(config.burst_lines)
        self._credited_at = 0.0
        self._blocked_since: float | None = None
        self._is_dropping = False
        self._counted = {"read": 0, "rejected": 0, "dropped": 0}
        self._untold = 0
        self._tell_at = 0.0

    @property
    def counts(self) -> IngressCounts:
        """How many lines there were so far, and what became of them."""
        outcomes = self.speaker.counts
        delivered = outcomes["delivered"]
        return IngressCounts(
            name=self._config.name,
            delivered=delivered,
            refused=outcomes.total() - delivered,
            **self._counted,
        )

    @property
    def fd(self) -> int | None:
        """The descriptor to poll for reading; None: nothing is to be taken now."""
        if self._source is None or self._read or not (self._may_take() or self._is_dropping):
            return None
        return self._source.fileno()

    def wake_at(self, now: float) -> float:
        """Return when `advance` has something to do by itself (monotonic seconds)."""
        wake_at = self.speaker.wake_at()
        if self._source is None:
            return min(wake_at, self._open_at)
        if self._blocked_since is not None and not self._is_dropping:
            return min(wake_at, self._blocked_since + PATIENCE_SECONDS)
        if self._read or not self._has_credit():
            return min(wake_at, now + LOOK_SECONDS)
        if self._source.fileno() is not None:
            return wake_at
        is_busy = now - self._taken_at < _BUSY_SECONDS
        return min(wake_at, now + (LOOK_SECONDS if is_busy else IDLE_LOOK_SECONDS))

    def advance(self, now: float) -> None:
        """Do all that can be done now."""
        self._earn(now)
        self.speaker.advance(now)
        if self._source is None:
            self._open(now)
        self._say_what_was_read(now)
        for _ in range(_MOST_TAKEN):
            if self._read or not self._may_take():
                break
            if not self._take(now):
                break
            self._say_what_was_read(now)
        self._mind_writers(now)

    def finish(self) -> None:
        """Take no more, say what has been taken, and leave."""
        while self._read:
            self._judge(self._read.popleft(), self._tell_at)
        self.speaker.leave()
        self.close_source()

    def close_source(self) -> None:
        """Let go of the source."""
        if self._source is not None:
            self._source.close()
            self._source = None
            self._open_at = float("inf")

    def _open(self, now: float) -> None:
        if now < self._open_at:
            return
        self._open_at = now + _RETRY_SECONDS
        try:
            match self._config.kind:
                case "fifo":
                    self._source = FifoSource(Path(self._config.path))
                case "sysv-queue":
                    self._source = SysvSource(Path(self._config.path))
                case "posix-queue":
                    self._source = PosixSource(self._config.path)
        except (ChannelError, OSError) as error:
            if not self._has_failed:
                self._has_failed = True
                self._log.warning(INGRESS_FAILED, reason=str(error))
        else:
            self._has_failed = False

    def _take(self, now: float) -> bool:
        """Take what is there in one go; False if there is nothing."""
        if self._source is None:
            return False
        try:
            lines = self._source.take()
        except (ChannelError, OSError):
            # Gone: perhaps because a reload has taken it away, and us next. Else it is told soon.
            self._source.close()
            self._source = None
            self._open_at = now + _RETRY_SECONDS
            return False
        if lines is None:
            return False
        lines = [line for line in lines if line]
        self._taken_at = now
        self._counted["read"] += len(lines)
        self._read.extend(lines)
        return True

    def _say_what_was_read(self, now: float) -> None:
        while self._read and self._may_take():
            self._credit -= 1
            self._judge(self._read.popleft(), now)

    def _judge(self, line: bytes, now: float) -> None:
        verdict = self._rules.judge(line)
        if isinstance(verdict, Accepted):
            self.speaker.say(verdict.line, verdict.destination if verdict.is_for_room else b"")
            return
        self._counted["rejected"] += 1
        self._tell(now, INGRESS_REJECTED, verdict.reason)

    def _mind_writers(self, now: float) -> None:
        """Throw away what comes while nobody can say it, once its writers have waited enough."""
        if self.speaker.is_free:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        since = self._blocked_since
        self._is_dropping = since is not None and now - since >= PATIENCE_SECONDS
        if not self._is_dropping:
            return
        for _ in range(_MOST_TAKEN):
            if not self._read and not self._take(now):
                return
            self._counted["dropped"] += len(self._read)
            self._read.clear()
            self._tell(now, INGRESS_DROPPED, "the chat has not taken anything for a while")

    def _may_take(self) -> bool:
        return self.speaker.is_free and self._has_credit()

    def _has_credit(self) -> bool:
        return self._config.lines_per_second == 0 or self._credit >= 1

    def _earn(self, now: float) -> None:
        earned = (now - self._credited_at) * self._config.lines_per_second
        self._credit = min(float(self._config.burst_lines), self._credit + earned)
        self._credited_at = now

    def _tell(self, now: float, event: str, reason: str) -> None:
        """Log, at most once a second."""
        if now < self._tell_at:
            self._untold += 1
            return
        self._tell_at = now + _LOG_SECONDS
        self._log.warning(event, reason=reason, more=self._untold)
        self._untold = 0
