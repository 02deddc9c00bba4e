"""What an operator may ask of a running daemon, and how far it has got with it.

By signal (`hearing`) or over the admin socket (`admin`), it is the same operation. The supervisor's
only thread begins it, and calls `advance` once in each turn of its loop; nothing here waits. An
operation that makes no sense now is refused, with a sentence, and changes nothing.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from prefork_chat import bulletin, log
from prefork_chat.config import resolve_state_dir
from prefork_chat.errors import StartError
from prefork_chat.log import (
    LOG_REOPENED,
    REPLACEMENT_BEGUN,
    REPLACEMENT_FAILED,
    REPLACEMENT_FINISHED,
    SUPERVISOR_DEGRADED,
    SUPERVISOR_DRAINING,
    SUPERVISOR_RESIZED,
    SUPERVISOR_STOPPING,
    UPGRADE_BEGUN,
    UPGRADE_REJECTED,
    WORKER_STUCK,
    get_logger,
)
from prefork_chat.registry.ipc import SemaphoreGone
from prefork_chat.registry.table import Order
from prefork_chat.supervisor.children import NANOSECONDS, Phase
from prefork_chat.supervisor.replacing import Replacing, Round
from prefork_chat.supervisor.stopping import Stop

if TYPE_CHECKING:
    from prefork_chat.bulletin import Topic
    from prefork_chat.supervisor.attendants import Attendants
    from prefork_chat.supervisor.configuration import Configuration
    from prefork_chat.supervisor.deed import Deed
    from prefork_chat.supervisor.estate import Estate
    from prefork_chat.supervisor.notify import Notifier
    from prefork_chat.supervisor.upgrading import Trial
    from prefork_chat.supervisor.workforce import Workforce


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """The operation cannot be begun; the message is a sentence for the operator."""


class Operations:
    """What is under way. Owner: the supervisor's thread.

    `exit_code` is the daemon's once `is_over`; `is_ending` is true from a drain or stop on.
    `is_tried`: the program of an upgrade has been found good, and is to be executed now.
    """

    def __init__(
        self,
        configuration: Configuration,
        estate: Estate,
        workforce: Workforce,
        attendants: Attendants,
        notifier: Notifier,
    ) -> None:
        """Begin with nothing under way."""
        self.exit_code = 0
        self._configuration: Final = configuration
        self._estate: Final = estate
        self._workforce: Final = workforce
        self._children: Final = workforce.children
        self._attendants: Final = attendants
        self._notifier: Final = notifier
        self._replacing: Final = Replacing()
        self._stop: Stop | None = None
        self._is_closing = False
        self._is_for_attendants = False
        self._drain_until_ns: int | None = None
        self._trial: Trial | None = None
        self._upgrade: Round | None = None
        self.is_tried = False
        self._log: Final = get_logger()

    @property
    def is_stopping(self) -> bool:
        """True from the beginning of a stop."""
        return self._stop is not None

    @property
    def is_ending(self) -> bool:
        """True from the beginning of a drain or a stop."""
        return self._drain_until_ns is not None or self.is_stopping

    def is_over(self) -> bool:
        """Say whether all processes have ended as they should, or are given up."""
        return self._attendants.is_over()

    def _have_workers_ended(self) -> bool:
        """Say whether all workers have ended as they should, or are given up."""
        if self._stop is None:
            return self._drain_until_ns is not None and not any(self._children)
        pids = [child.pid for child in self._children.living()]
        if pids and self._stop.is_given_up(time.monotonic_ns()):
            self._log.error(WORKER_STUCK, pids=pids, meaning="left behind: SIGKILL is no help")
            return True
        return not pids

    def advance(self) -> None:
        """Carry on with everything that is under way."""
        if self._stop is None:
            self._workforce.fork_due()
            self._watch()
        if self._stop is None:
            self._settle()
            self._workforce.replace(self._replacing)
            is_draining = self._drain_until_ns is not None
            self._end_trial_if_due()
            self._workforce.tell_surplus(Order.DRAIN if is_draining else Order.LEAVE)
            self._give_up_if_exhausted()
            self._end_drain_if_due()
        if self._stop is not None:
            self._workforce.press(self._stop)
        if not self._is_closing and self._have_workers_ended():
            self._is_closing = True  # nobody is left who would have anything to do for them
            self._attendants.stop()
        self._attendants.advance()

    def next_deadline_ns(self) -> int | None:
        """Return when `advance` has something to do, if nothing happens before."""
        if self._is_closing:
            return self._attendants.next_deadline_ns()
        attendants_ns = self._attendants.next_deadline_ns()
        if self._stop is not None:
            return min(self._stop.next_check_ns(), attendants_ns or self._stop.next_check_ns())
        deadlines = (
            attendants_ns,
            self._workforce.next_deadline_ns(),
            self._replacing.next_check_ns(),
            self._drain_until_ns,
            self._trial.deadline_ns if self._trial else None,
        )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def reload(self) -> Round:
        """Load the configuration and have all workers replaced; raises ConfigError or Refused."""
        self._require_going_on()
        kept = self._configuration.renew(self._children.places)
        self._workforce.adopt(self._configuration.current)
        self._is_for_attendants = True
        round_ = self._begin_round("reload", self._generations())
        if kept:
            round_.remark = f"these keys need a restart: {', '.join(kept)}"
        return round_

    def recycle(self, p_id: int) -> Round:
        """Have one worker replaced; raises Refused if there is none."""
        self._require_going_on()
        if p_id not in [child.p_id for child in self._children]:
            raise Refused(f"there is no worker {p_id}")
        return self._begin_round("recycle", {p_id: self._children[p_id].generation})

    def upgrade(self) -> Round:
        """Try the program that is to take over; raises Refused if that cannot even be begun."""
        self._require_going_on()
        if self._upgrade is not None:
            raise Refused("an upgrade is under way")
        round_ = Round("upgrade", {}, time.monotonic_ns())
        try:
            self._trial = self._workforce.begin_trial(self.deed(round_.begun_ns))
        except OSError as error:
            raise Refused(f"upgrade: {error.strerror}") from error
        self._upgrade = round_
        self._log.info(UPGRADE_BEGUN, program=[sys.executable, *sys.orig_argv[1:]])
        return round_

    def bury(self, pid: int, status: int) -> None:
        """Take note of the end of a process that was no worker; `status` is waitpid's."""
        if self._trial is None or self._trial.pid != pid:
            return
        failure = self._trial.finish(status)
        self._trial = None
        if failure:
            self.reject_upgrade(failure)
        else:
            self.is_tried = not self.is_ending

    def reject_upgrade(self, failure: str) -> None:
        """Go on as the program that we are; whoever waits for the upgrade learns why."""
        self.is_tried = False
        if self._trial is not None:
            self._trial.kill()
        if self._upgrade is not None:
            self._log.error(UPGRADE_REJECTED, reason=failure)
            self._upgrade.is_over, self._upgrade.failure = True, failure
            self._upgrade = None

    def deed(self, begun_ns: int | None = None) -> Deed:
        """Return what is to be known to go on from here, in an upgrade that began at that time."""
        if begun_ns is None:
            begun_ns = self._upgrade.begun_ns if self._upgrade else time.monotonic_ns()
        entries = self._attendants.entries()
        return self._estate.deed(self._configuration.current, self._children, entries, begun_ns)

    def resume(self, begun_ns: int) -> Round:
        """Begin where an upgrade has led: all processes are of the program before us."""
        self._is_for_attendants = True
        return self._begin_round("upgrade", self._generations(), begun_ns)

    def grow(self) -> None:
        """Have one worker more; raises Refused if there is no place for it."""
        self._require_going_on()
        if self._children.wanted == self._children.places:
            raise Refused(f"{self._children.places} workers are the most (server.max_workers)")
        self._resize(self._children.wanted + 1)

    def shrink(self) -> None:
        """Have one worker fewer; raises Refused if it is the last one."""
        self._require_going_on()
        if self._children.wanted == 1:
            raise Refused("one worker is the least")
        self._resize(self._children.wanted - 1)

    def drain(self) -> None:
        """Accept nobody more, and stop when all have left; raises Refused if that is under way."""
        self._require_going_on()
        seconds = self._configuration.current.server.drain_seconds
        self._log.info(SUPERVISOR_DRAINING, seconds=seconds, sessions=self._estate.registry.claimed)
        self._estate.listeners.close()
        self._drain_until_ns = time.monotonic_ns() + int(seconds * NANOSECONDS)
        self._abandon("the daemon is draining")
        self._children.resize(0, time.monotonic_ns())

    def stop(self, reason: str) -> None:
        """Stop in order; once that is under way, take the rest of its time away."""
        if self._stop is not None:
            self._stop.hurry(time.monotonic_ns())
            if self._is_closing:
                self._attendants.stop()
            return
        self._log.info(SUPERVISOR_STOPPING, reason=reason, workers=len(self._children.living()))
        self._notifier.stopping(f"stopping: {reason}")
        self._estate.listeners.close()
        self._stop = Stop(self._configuration.current.server.stop_seconds, time.monotonic_ns())
        self._abandon("the daemon is stopping")
        self._children.stop()

    def reopen_log(self) -> None:
        """Go on in a new file if the log's has been moved; raises Refused if that cannot be."""
        try:
            log.configure(self._configuration.current.log)
        except StartError as error:
            raise Refused(str(error)) from error
        self._log.info(LOG_REOPENED, file=self._configuration.current.log.file or "stderr")

    def post(self, topic: Topic, text: str) -> None:
        """Keep a text for everybody, also beyond a restart; raises Refused."""
        complaint = bulletin.complaint(topic, text)
        if complaint:
            raise Refused(complaint)
        try:
            bulletin.post(resolve_state_dir(self._configuration.current), topic, text)
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}") from error

    def describe(self) -> str:
        """Return how the daemon is, in a few words."""
        if self._drain_until_ns is not None:
            left = self._estate.registry.claimed
            return f"draining: {left} client{'' if left == 1 else 's'} left"
        ready = f"{self._children.ready_count()} of {self._children.wanted} workers ready"
        crashed = [f"worker {c.p_id} crashed {c.crashes}x" for c in self._children if c.crashes]
        return f"degraded: {', '.join(crashed)}; {ready}" if crashed else ready

    def _require_going_on(self) -> None:
        if self.is_stopping:
            raise Refused("the daemon is stopping")
        if self.is_ending:
            raise Refused("the daemon is draining")

    def _resize(self, wanted: int) -> None:
        self._children.resize(wanted, time.monotonic_ns())
        self._log.info(SUPERVISOR_RESIZED, workers=wanted)

    def _begin_round(
        self, reason: str, targets: dict[int, int], begun_ns: int | None = None
    ) -> Round:
        self._log.info(REPLACEMENT_BEGUN, reason=reason, workers=sorted(targets))
        begun_ns = time.monotonic_ns() if begun_ns is None else begun_ns
        return self._replacing.begin(reason, targets, begun_ns)

    def _generations(self) -> dict[int, int]:
        return {child.p_id: child.generation for child in self._children}

    def _settle(self) -> None:
        """See which rounds are over; when all are, the configuration has proved right."""
        for round_ in self._replacing.settle(self._children):
            if round_.failure:
                self._fail(round_)
                return
            took = (time.monotonic_ns() - round_.begun_ns) / NANOSECONDS
            self._log.info(REPLACEMENT_FINISHED, reason=round_.reason, seconds=round(took, 3))
            if not self._replacing.is_under_way:
                self._configuration.has_proved_right()
                self._workforce.settle()
                self._renew_attendants()

    def _renew_attendants(self) -> None:
        """Have the attendants follow the workers: one that goes for good has dealt with theirs."""
        if self._is_for_attendants:
            self._is_for_attendants = False
            self._attendants.adopt(self._configuration.current)

    def _fail(self, failed: Round) -> None:
        """Bring the configuration back that all workers had; who has the new one goes again."""
        self._log.error(REPLACEMENT_FAILED, reason=failed.reason, failure=failed.failure)
        self._abandon(failed.failure)
        if self._configuration.is_proven:
            return
        self._is_for_attendants = False
        self._configuration.restore()
        self._workforce.adopt(self._configuration.current)
        self._children.forgive()
        renewed = {
            p_id: self._children[p_id].generation
            for p_id, generation in failed.targets.items()
            if self._children[p_id].generation > generation
            and self._children[p_id].phase is Phase.READY
        }
        if renewed:
            self._begin_round("restore", renewed)

    def _abandon(self, why: str) -> None:
        for round_ in self._replacing.abandon(why):
            self._log.warning(REPLACEMENT_FAILED, reason=round_.reason, failure=why)
        if self.is_ending:
            self.reject_upgrade(why)

    def _watch(self) -> None:
        """Let the workforce watch; without the write semaphore nobody can join or leave any more.

        It cannot be made anew under workers that live: they and their successors would not meet.
        """
        try:
            self._workforce.watch()
        except SemaphoreGone as error:
            self._give_up(f"the registry's {error}: somebody has removed it (ipcrm, RemoveIPC=)")

    def _give_up_if_exhausted(self) -> None:
        child = self._children.exhausted()
        if child is not None:
            self._give_up(f"worker {child.p_id} has crashed {child.crashes} times in a row")

    def _give_up(self, reason: str) -> None:
        self._log.error(SUPERVISOR_DEGRADED, reason=reason, meaning="giving up")
        self.exit_code = 1
        self.stop(reason)

    def _end_trial_if_due(self) -> None:
        if self._trial is not None and time.monotonic_ns() >= self._trial.deadline_ns:
            self._trial.kill()

    def _end_drain_if_due(self) -> None:
        if self._drain_until_ns is not None and time.monotonic_ns() >= self._drain_until_ns:
            self.stop("drain_seconds are over")
