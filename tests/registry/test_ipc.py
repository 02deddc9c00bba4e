"""The kernel's promises that the registry and the accept turn rest on, each one put to the test."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
import time
from pathlib import Path

import posix_ipc
import pytest
import sysv_ipc

from prefork_chat.errors import LeftoverError, StartError
from prefork_chat.registry.ipc import (
    NameTaken,
    Semaphore,
    SemaphoreGone,
    SharedMemory,
    remove_leftover_memory,
    remove_leftover_semaphore,
)
from tests.registry.conftest import MakeSemaphore, fresh_key
from tests.registry.processes import child, fork, kill, until, wait

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def waiters(semaphore: Semaphore) -> int:
    return int(sysv_ipc.Semaphore(semaphore.key).waiting_for_nonzero)


def run_in_thread(body: object) -> None:
    assert callable(body)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()


def fresh_name() -> str:
    return f"/prefork-chat-test-{fresh_key():x}"


# Shared memory


def test_memory_is_zeroed_shared_with_children_and_has_no_name() -> None:
    name = fresh_name()
    memory = SharedMemory.create(name, 10_000)
    try:
        assert not Path("/dev/shm" + name).exists()
        assert memory.map[:] == bytes(10_000)
        pid = fork(lambda: memory.map.__setitem__(slice(0, 5), b"hello"))
        assert wait(pid) == 0
        assert memory.map[:5] == b"hello"
        assert not os.get_inheritable(memory.fd)
    finally:
        memory.close()


def test_memory_is_allocated_when_it_is_made() -> None:
    memory = SharedMemory.create(fresh_name(), 1 << 20)
    try:
        assert os.fstat(memory.fd).st_blocks * 512 >= 1 << 20
    finally:
        memory.close()


def test_memory_that_is_not_to_be_had_is_an_error_and_leaves_nothing() -> None:
    space = os.statvfs("/dev/shm")
    if not space.f_blocks:
        pytest.skip("needs a /dev/shm of limited size")
    name = fresh_name()
    fds = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StartError, match="No space left on device in /dev/shm"):
        SharedMemory.create(name, (space.f_blocks + 1) * space.f_frsize)
    assert not Path("/dev/shm" + name).exists()
    assert len(os.listdir("/proc/self/fd")) == fds


@pytest.mark.parametrize("left", [0, 1])
def test_memory_is_an_error_when_descriptors_run_out(left: int) -> None:
    """It takes two: one to make it, one inside the mapping."""
    name = fresh_name()

    def create() -> None:
        os.closerange(3, 1000)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3 + left, hard))
        with pytest.raises(StartError, match="files"):
            SharedMemory.create(name, 4096)
        if left:
            os.close(os.dup(2))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert wait(fork(create)) == 0
    assert not Path("/dev/shm" + name).exists()


def test_memory_of_a_taken_name_is_refused_and_left_alone() -> None:
    name = fresh_name()
    posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=4096).close_fd()
    try:
        with pytest.raises(NameTaken):
            SharedMemory.create(name, 4096)
        assert Path("/dev/shm" + name).exists()
    finally:
        assert remove_leftover_memory(name)
    assert not remove_leftover_memory(name)


@needs_root
def test_leftover_memory_of_another_user_is_an_error() -> None:
    name = fresh_name()
    posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=4096).close_fd()

    def stranger() -> None:
        os.setuid(65534)
        with pytest.raises(LeftoverError):
            remove_leftover_memory(name)

    try:
        assert wait(fork(stranger)) == 0
    finally:
        assert remove_leftover_memory(name)


# Semaphores: making and removing


def test_key_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="key 0"):
        Semaphore.create(0, 1)


def test_semaphore_of_a_taken_key_is_refused_and_left_alone(semaphore: Semaphore) -> None:
    with pytest.raises(NameTaken):
        Semaphore.create(semaphore.key, 5)
    assert semaphore.value == 1


def test_leftover_semaphore_is_removed_once() -> None:
    key = fresh_key()
    Semaphore.create(key, 1)
    assert remove_leftover_semaphore(key)
    assert not remove_leftover_semaphore(key)


@needs_root
def test_semaphore_is_an_error_when_the_system_has_none_left() -> None:
    may_not = 77

    def create_where_one_may_be() -> None:
        clone_newipc = 0x08000000
        if ctypes.CDLL(None).unshare(clone_newipc) != 0:
            os._exit(may_not)
        Path("/proc/sys/kernel/sem").write_text("250 32000 32 1", encoding="ascii")
        Semaphore.create(fresh_key(), 1)
        with pytest.raises(StartError, match="No space left"):
            Semaphore.create(fresh_key(), 1)

    status = wait(fork(create_where_one_may_be))
    if status == may_not:
        pytest.skip("needs the right to make an IPC namespace")
    assert status == 0


@needs_root
def test_leftover_semaphore_of_another_user_is_an_error(semaphore: Semaphore) -> None:
    def stranger() -> None:
        os.setuid(65534)
        with pytest.raises(LeftoverError):
            remove_leftover_semaphore(semaphore.key)

    assert wait(fork(stranger)) == 0
    assert semaphore.value == 1


def test_removed_semaphore_says_so_whatever_is_asked_of_it(semaphore: Semaphore) -> None:
    semaphore.remove()
    semaphore.remove()
    for use in (
        semaphore.acquire,
        semaphore.try_acquire,
        semaphore.release,
        semaphore.holder_pid,
        lambda: semaphore.value,
        lambda: Semaphore(semaphore.key),
    ):
        with pytest.raises(SemaphoreGone):
            use()


def test_waiter_learns_that_the_semaphore_is_removed(semaphore: Semaphore) -> None:
    def wait_in_vain() -> None:
        with pytest.raises(SemaphoreGone):
            semaphore.acquire()

    semaphore.acquire()
    with child(wait_in_vain) as pid:
        until(lambda: waiters(semaphore))
        semaphore.remove()
        assert wait(pid) == 0


# Semaphores: taking and giving back


def test_as_many_hold_it_as_its_value_says(make_semaphore: MakeSemaphore) -> None:
    semaphore = make_semaphore(2)
    assert [semaphore.try_acquire() for _ in range(3)] == [True, True, False]
    semaphore.release()
    assert semaphore.value == 1


def test_holder_pid_names_the_process_that_has_it(semaphore: Semaphore) -> None:
    assert semaphore.holder_pid() == 0
    with semaphore:
        assert semaphore.holder_pid() == os.getpid()
        assert not semaphore.try_acquire()
        with child(semaphore.acquire) as pid:
            until(lambda: waiters(semaphore))
            assert semaphore.holder_pid() == os.getpid()
            semaphore.release()
            assert wait(pid) == 0
            semaphore.acquire()
    assert semaphore.holder_pid() == 0


def test_with_block_gives_back_when_it_raises(semaphore: Semaphore) -> None:
    with pytest.raises(KeyError), semaphore:
        raise KeyError
    assert semaphore.value == 1


def test_killed_holder_gives_back_to_the_waiter(semaphore: Semaphore) -> None:
    def hold() -> None:
        semaphore.acquire()
        signal.pause()

    with child(hold) as holder:
        until(lambda: semaphore.holder_pid() == holder)
        with child(semaphore.acquire) as waiter:
            until(lambda: waiters(semaphore))
            kill(holder)
            assert wait(waiter) == 0
    assert semaphore.value == 1


def test_process_killed_while_one_of_its_threads_holds_gives_back(semaphore: Semaphore) -> None:
    def hold() -> None:
        run_in_thread(semaphore.acquire)
        signal.pause()

    with child(hold) as holder:
        until(lambda: semaphore.holder_pid() == holder)
        kill(holder)
    assert semaphore.value == 1


def test_thread_that_ends_while_it_holds_keeps_it_held(semaphore: Semaphore) -> None:
    run_in_thread(semaphore.acquire)
    assert semaphore.holder_pid() == os.getpid()
    run_in_thread(semaphore.release)
    assert semaphore.value == 1


def test_what_a_thread_gave_back_for_another_is_settled_in_the_account(
    semaphore: Semaphore,
) -> None:
    def take_and_give_back_in_two_threads() -> None:
        for _ in range(100):
            run_in_thread(semaphore.acquire)
            run_in_thread(semaphore.release)

    assert wait(fork(take_and_give_back_in_two_threads)) == 0
    assert semaphore.value == 1


def test_what_is_held_at_fork_is_not_given_back_by_the_child(semaphore: Semaphore) -> None:
    with semaphore:
        assert wait(fork(lambda: None)) == 0
        assert semaphore.value == 0
    assert semaphore.value == 1


def test_threads_of_one_process_exclude_each_other(semaphore: Semaphore) -> None:
    inside = 0
    most = 0

    def go_in_and_out() -> None:
        nonlocal inside, most
        for _ in range(300):
            with semaphore:
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=go_in_and_out) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert semaphore.value == 1


def test_waiting_thread_lets_other_threads_run(semaphore: Semaphore) -> None:
    semaphore.acquire()
    waiter = threading.Thread(target=semaphore.acquire)
    waiter.start()
    # Without the GIL this line would never be come to: the waiter would keep it.
    until(lambda: waiters(semaphore) == 1)
    assert waiter.is_alive()
    semaphore.release()
    waiter.join()
    semaphore.release()


def test_trying_in_one_thread_does_not_disturb_the_waiter_in_another(semaphore: Semaphore) -> None:
    semaphore.acquire()
    waiter = threading.Thread(target=semaphore.acquire)
    waiter.start()
    until(lambda: waiters(semaphore) == 1)
    for _ in range(1000):
        assert not semaphore.try_acquire()
    assert waiter.is_alive()
    semaphore.release()
    waiter.join()
    assert semaphore.value == 0
    semaphore.release()


def test_waiter_that_is_stopped_and_continued_goes_on_waiting(semaphore: Semaphore) -> None:
    with semaphore, child(semaphore.acquire) as pid:
        for _ in range(3):
            until(lambda: waiters(semaphore) == 1)
            os.kill(pid, signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
            os.kill(pid, signal.SIGCONT)
            assert os.WIFCONTINUED(os.waitpid(pid, os.WCONTINUED)[1])
        until(lambda: waiters(semaphore) == 1)
        semaphore.release()
        assert wait(pid) == 0
        semaphore.acquire()


def test_waiter_that_gets_a_signal_runs_its_handler_and_goes_on_waiting(
    semaphore: Semaphore,
) -> None:
    handled, tell = os.pipe()

    def wait_with_handler() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: os.write(tell, b"."))
        semaphore.acquire()

    try:
        with semaphore, child(wait_with_handler) as pid:
            until(lambda: waiters(semaphore) == 1)
            os.kill(pid, signal.SIGUSR1)
            assert os.read(handled, 1) == b"."
            until(lambda: waiters(semaphore) == 1)
            semaphore.release()
            assert wait(pid) == 0
            semaphore.acquire()
    finally:
        os.close(handled)
        os.close(tell)


def test_waiters_are_served_in_the_order_of_their_arrival(semaphore: Semaphore) -> None:
    reader, writer = os.pipe()

    def take_a_turn(number: int) -> None:
        with semaphore:
            os.write(writer, b"%d" % number)

    semaphore.acquire()
    pids = []
    for number in range(5):
        pids.append(fork(lambda number=number: take_a_turn(number)))  # type: ignore[misc]
        until(lambda number=number: waiters(semaphore) == number + 1)  # type: ignore[misc]
    semaphore.release()
    assert [wait(pid) for pid in pids] == [0] * 5
    assert os.read(reader, 100) == b"01234"
    os.close(reader)
    os.close(writer)
