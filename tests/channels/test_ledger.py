"""The ledger and the keys: whose a leftover is, and what is refused."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_chat.channels import ledger as ledger_module
from prefork_chat.channels.errors import (
    ChannelError,
    ChannelTaken,
    KeyMissing,
    NoServer,
    NotPermitted,
    ObjectTaken,
)
from prefork_chat.channels.key import Key
from prefork_chat.channels.ledger import Ledger, default_directory
from prefork_chat.channels.mechanisms import clean, connect, list_channels, serve
from prefork_chat.channels.names import FIFO, SHARED_MEMORY, SOCKET, SYSV_QUEUE
from prefork_chat.channels.posix import PosixQueue, remove_posix_queue
from prefork_chat.channels.process import has_lived_since
from prefork_chat.channels.sysv import SysvMemory, SysvQueue, SysvSemaphore, remove_sysv
from tests.registry.processes import child, kill, until

if TYPE_CHECKING:
    from collections.abc import Callable


def left_by_a_killed_server(mechanism: str, key: Path, ledger: Path) -> None:
    """Serve in a process that is killed."""
    reading, writing = os.pipe()

    def body() -> None:
        serve(mechanism, key, ledger)
        os.write(writing, b".")
        signal.pause()

    with child(body) as pid:
        assert os.read(reading, 1) == b"."
        kill(pid)
    os.close(reading)
    os.close(writing)


def edit(ledger: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """Change the facts of the only channel."""
    (path,) = ledger.glob("*.channel")
    head, _, facts = path.read_text(encoding="utf-8").partition("\n")
    loaded = json.loads(facts)
    change(loaded)
    path.write_text(f"{head}\n{json.dumps(loaded)}", encoding="utf-8")
    return path


def test_an_object_with_another_id_is_a_stranger_s_and_stays(key: Path, ledger: Path) -> None:
    left_by_a_killed_server(SYSV_QUEUE, key, ledger)
    number = Key.of(key).number
    assert remove_sysv("queue", number, None)
    stranger = SysvQueue.create(number, 100)
    assert [error for _, error in clean(ledger)] == [None]
    assert SysvQueue.open(number, 100).id == stranger.id
    stranger.remove()


def test_after_a_reboot_a_key_says_nothing(key: Path, ledger: Path) -> None:
    left_by_a_killed_server(SHARED_MEMORY, key, ledger)
    edit(ledger, lambda facts: facts.update(boot="another"))
    with pytest.raises(ObjectTaken, match="is not ours"):
        serve(SHARED_MEMORY, key, ledger)
    number = Key.of(key).number
    assert remove_sysv("memory", number, None)
    for semaphore in (ord("F"), ord("R")):
        assert remove_sysv("semaphore", number & 0xFFFFFF | semaphore << 24, None)


def test_an_object_made_but_not_noted_is_removed(key: Path, ledger: Path) -> None:
    """Its server was killed between the two."""
    left_by_a_killed_server(SHARED_MEMORY, key, ledger)
    edit(ledger, lambda facts: facts.update(ids={}))
    assert [error for _, error in clean(ledger)] == [None]


def test_a_file_that_was_cut_short_is_removed(key: Path, ledger: Path) -> None:
    left_by_a_killed_server(FIFO, key, ledger)
    (path,) = ledger.glob("*.channel")
    path.write_text("")
    (listed,) = list_channels(ledger)
    assert (listed.server_pid, listed.key_path, listed.is_leftover) == (0, "?", True)
    assert [error for _, error in clean(ledger)] == [None]


def test_what_else_is_in_the_directory_is_not_looked_at(key: Path, ledger: Path) -> None:
    ledger.mkdir(mode=0o700)
    for name in ("notes", "telepathy-00000001.channel"):
        (ledger / name).touch()
    assert list(clean(ledger)) == []
    assert sorted(path.name for path in ledger.iterdir()) == ["notes", "telepathy-00000001.channel"]
    for path in ledger.iterdir():
        path.unlink()


def test_a_directory_that_others_can_write_to_is_refused(key: Path, ledger: Path) -> None:
    ledger.mkdir()
    ledger.chmod(0o777)
    with pytest.raises(NotPermitted, match="writable for others"):
        serve(FIFO, key, ledger)
    ledger.chmod(0o700)


def test_a_directory_that_is_none_is_refused(key: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name, error in (("file", ChannelError), ("link", NotPermitted), ("no/such", ChannelError)):
        with pytest.raises(error, match=name):
            serve(FIFO, key, tmp_path / name)


def test_two_files_with_one_key_are_told_apart(
    key: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 bits of the inode are in a key: it happens."""
    other = key.with_name("other")
    other.touch()
    monkeypatch.setattr("prefork_chat.channels.key.system_v_key", lambda *_: 0x50123456)
    with serve(FIFO, key, ledger):
        with pytest.raises(ChannelTaken, match=f"whose key file {key} has the same key"):
            serve(FIFO, other, ledger)
        with pytest.raises(NoServer, match=f"one of {key}, which has the same key"):
            connect(FIFO, other, ledger)
        other.unlink()
        other.hardlink_to(key)  # another path of the same file
        connect(FIFO, other, ledger).close()
        other.unlink()
        with pytest.raises(NoServer):
            connect(FIFO, key.parent, ledger)


def test_keys_say_what_is_wrong_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file" / "below"):
        with pytest.raises(KeyMissing, match="make it with touch"):
            Key.of(path)
    with pytest.raises(ChannelError, match="too long"):
        Key.of(tmp_path / ("x" * 300))


def test_something_in_the_way_of_a_name_is_told(key: Path, ledger: Path) -> None:
    ledger.mkdir(mode=0o700)
    number = Key.of(key).name
    for mechanism, suffix in ((FIFO, "fifo"), (SOCKET, "socket")):
        obstacle = ledger / f"{mechanism}-{number}.{suffix}"
        obstacle.touch()
        with pytest.raises(ChannelError, match=str(obstacle)):
            serve(mechanism, key, ledger)
        obstacle.unlink()


def test_an_object_of_somebody_else_is_never_taken_over(key: Path, ledger: Path) -> None:
    number = Key.of(key).number
    name = f"/prefork-chat-{os.geteuid()}-{number:08x}"
    queue, memory = SysvQueue.create(number, 100), SysvMemory.create(number, 100)
    posix = PosixQueue.create(name, 1, 10, 10)
    try:
        for mechanism in (SYSV_QUEUE, SHARED_MEMORY, "posix-queue"):
            with pytest.raises(ObjectTaken, match="exists already, and is not ours"):
                serve(mechanism, key, ledger)
    finally:
        queue.remove()
        memory.remove()
        memory.close()
        posix.close()
        assert remove_posix_queue(name)
    assert not remove_posix_queue(name)
    assert not remove_sysv("queue", number, None)


def test_a_ring_that_could_not_be_made_whole_leaves_nothing(key: Path, ledger: Path) -> None:
    in_the_way = SysvSemaphore.create(Key.of(key).number & 0xFFFFFF | ord("R") << 24, 0)
    with pytest.raises(ObjectTaken):
        serve(SHARED_MEMORY, key, ledger)
    in_the_way.remove()


def test_a_timer_and_a_handler_of_somebody_else_come_back(key: Path) -> None:
    """Waiting in System V calls uses SIGALRM for a moment."""
    queue = SysvQueue.create(Key.of(key).number, 100)
    rung: list[int] = []
    handler = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    timer = signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert queue.take(0.2) is None  # the other one's time passes in it
        until(lambda: rung)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)
        queue.remove()


def test_the_dead_and_those_who_came_later_are_no_peers() -> None:
    now = 2_000_000_000
    assert has_lived_since(os.getpid(), now)
    assert not has_lived_since(os.getpid(), 1)  # a pid that is used again
    with child(signal.pause) as pid:
        assert has_lived_since(pid, now)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not has_lived_since(pid, now))  # a zombie
        os.waitpid(pid, 0)
        assert not has_lived_since(pid, now)


def test_the_directory_is_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_directory() == Path("/run/user/7/prefork-chat-ipc")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_directory() == Path(f"/tmp/prefork-chat-ipc-{os.geteuid()}")


def test_a_new_server_s_file_is_never_removed_by_who_looked_at_the_old_one(
    key: Path, ledger: Path
) -> None:
    left_by_a_killed_server(FIFO, key, ledger)
    seen = Ledger(ledger).find(FIFO, Key.of(key))
    assert seen is not None
    with serve(FIFO, key, ledger):
        assert not Ledger(ledger).try_remove(seen, lambda _: pytest.fail("removed a living one's"))
        assert [listed.is_leftover for listed in list_channels(ledger)] == [False]
    assert ledger_module.Ledger(ledger).find(FIFO, Key.of(key)) is None
