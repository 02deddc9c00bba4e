"""The inbox in a process of its own for each test: handlers belong to a process."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from prefork_chat.supervisor.signals import HANDLED, IGNORED_BY_WORKERS, SignalInbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def in_child(do: Callable[[], None]) -> None:
    """Run `do` in a forked process; its assertions are ours."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            do()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def wait(inbox: SignalInbox, seconds: float) -> bool:
    with inbox.delivered():
        return bool(select.select([inbox], [], [], seconds)[0])


def test_signal_that_came_before_the_wait_ends_it_at_once() -> None:
    def body() -> None:
        with SignalInbox() as inbox:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inbox.take() == set()
            assert wait(inbox, 20)
            assert inbox.take() == {signal.SIGTERM}
            assert inbox.take() == set()
            assert not wait(inbox, 0)

    in_child(body)


def test_signal_during_the_wait_ends_it() -> None:
    def body() -> None:
        with SignalInbox() as inbox:
            signal.setitimer(signal.ITIMER_REAL, 0)
            pid = os.fork()
            if pid == 0:
                time.sleep(0.05)
                os.kill(os.getppid(), signal.SIGHUP)
                os._exit(0)
            begun = time.monotonic()
            assert wait(inbox, 20)
            assert time.monotonic() - begun < 10
            assert signal.SIGHUP in inbox.take()

    in_child(body)


def test_every_kind_of_a_burst_is_kept() -> None:
    def body() -> None:
        with SignalInbox() as inbox:
            for _ in range(50):
                for number in HANDLED:
                    os.kill(os.getpid(), number)
                with inbox.delivered():
                    pass
            assert inbox.take() == HANDLED

    in_child(body)


def test_wakeup_buffer_that_is_full_drops_no_signal() -> None:
    def body() -> None:
        with SignalInbox() as inbox:
            for _ in range(10_000):
                os.kill(os.getpid(), signal.SIGUSR1)
                with inbox.delivered():
                    pass
            os.kill(os.getpid(), signal.SIGTERM)
            assert wait(inbox, 20)
            assert inbox.take() == {signal.SIGUSR1, signal.SIGTERM}

    in_child(body)


def test_no_handler_runs_outside_the_wait() -> None:
    """So a system call elsewhere is not interrupted, and a fork neither."""

    def body() -> None:
        with SignalInbox() as inbox:
            for number in HANDLED:
                os.kill(os.getpid(), number)
            assert signal.sigpending() >= HANDLED
            assert inbox.take() == set()

    in_child(body)


def test_child_ignores_what_is_meant_for_the_supervisor_and_obeys_sigterm() -> None:
    def body() -> None:
        with SignalInbox() as inbox:
            pid = os.fork()
            if pid == 0:
                inbox.reset_in_child()
                for number in IGNORED_BY_WORKERS:
                    os.kill(os.getpid(), number)
                assert signal.set_wakeup_fd(-1) == -1
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM

    in_child(body)


def test_sigterm_that_comes_before_the_child_is_reset_ends_it() -> None:
    def body() -> None:
        with SignalInbox() as inbox:
            go, gone = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.read(go, 1)
                inbox.reset_in_child()
                os._exit(1)
            os.kill(pid, signal.SIGTERM)
            os.write(gone, b"x")
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM

    in_child(body)


def test_a_childs_signals_do_not_wake_the_supervisor() -> None:
    def body() -> None:
        with SignalInbox() as inbox:
            pid = os.fork()
            if pid == 0:
                inbox.reset_in_child()
                signal.signal(signal.SIGTERM, lambda *_: None)
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
            os.waitpid(pid, 0)
            wait(inbox, 0)
            assert inbox.take() == {signal.SIGCHLD}

    in_child(body)


def test_leaving_puts_handlers_and_mask_back() -> None:
    def body() -> None:
        heard: list[int] = []

        def hear(number: int, _: FrameType | None) -> None:
            heard.append(number)

        signal.signal(signal.SIGHUP, hear)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        with SignalInbox():
            os.kill(os.getpid(), signal.SIGHUP)
        assert heard == []
        os.kill(os.getpid(), signal.SIGHUP)
        assert heard == [signal.SIGHUP]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask | {signal.SIGUSR1}
        assert signal.set_wakeup_fd(-1) == -1

    in_child(body)
