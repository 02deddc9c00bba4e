"""What other programs find of the daemon: made, found again, and removed, and nothing else."""

from __future__ import annotations

import os
import signal
import stat
import sys
from typing import TYPE_CHECKING

import msgspec
import posix_ipc
import pytest

from prefork_chat.board.board import key_of
from prefork_chat.channels.errors import NoServer
from prefork_chat.channels.sysv import SysvMemory, SysvQueue
from prefork_chat.config import BoardConfig, Config, IngressConfig
from prefork_chat.errors import StartError
from prefork_chat.supervisor.local import LIST_FILE, LocalObject, LocalObjects
from prefork_chat.supervisor.localkinds import (
    BOARD,
    FIFO,
    KINDS,
    POSIX_QUEUE,
    SYSV_QUEUE,
    queue_key,
)
from prefork_chat.supervisor.runtime import RuntimeDirectory
from tests.supervisor.killed_everywhere import Executioner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_chat.config import IngressKind


class Place:
    """A runtime directory, a place for FIFOs, and one configuration of all kinds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self.run.mkdir(mode=0o700)
        self.runtime = RuntimeDirectory(self.run, os.open(self.run, os.O_RDONLY), -1)
        self.names: dict[IngressKind, str] = {
            "fifo": str(path / "in"),
            "sysv-queue": str(path / "key"),
            "posix-queue": f"/prefork-chat-test-{os.getpid()}",
        }

    def config(self, *kinds: IngressKind, board: bool = True, **options: str) -> Config:
        return Config(
            board=BoardConfig(enabled=board),
            ingress=tuple(
                IngressConfig(kind=kind, path=self.names[kind], name=kind, **options)  # type: ignore[arg-type]
                for kind in kinds
            ),
        )

    @property
    def all(self) -> Config:
        return self.config("fifo", "sysv-queue", "posix-queue")

    def there(self) -> set[str]:
        found = {kind for kind, name in self.names.items() if KINDS[kind].look(name)}
        return {*found, *([BOARD] if KINDS[BOARD].look(str(self.run)) else [])}

    def listed(self) -> list[LocalObject]:
        data = (self.run / LIST_FILE).read_bytes()
        return msgspec.json.decode(data, type=list[LocalObject])

    def write_list(self, *objects: LocalObject) -> None:
        (self.run / LIST_FILE).write_bytes(msgspec.json.encode(objects))


ALL = {BOARD, FIFO, SYSV_QUEUE, POSIX_QUEUE}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    LocalObjects(place.runtime).remove()
    os.close(place.runtime.fd)
    assert place.there() == set()


def test_all_is_made_and_removed_again(place: Place) -> None:
    local = LocalObjects(place.runtime)
    local.put_up(place.all)
    assert place.there() == ALL
    local.put_up(place.all)
    assert place.there() == ALL
    local.remove()
    assert place.there() == set()
    assert os.listdir(place.run) == []
    assert os.listdir(place.path) == ["run"]
    local.remove()


def test_the_next_one_goes_on_with_what_is_there(place: Place) -> None:
    LocalObjects(place.runtime).put_up(place.all)
    before = place.listed()
    SysvQueue.open(queue_key(place.names["sysv-queue"]), 100).put(memoryview(b"waits"), 1, 0)
    local = LocalObjects(place.runtime)
    local.put_up(place.all)
    assert place.listed() == before
    assert SysvQueue.open(queue_key(place.names["sysv-queue"]), 100).count == 1
    local.put_up(place.config(board=False))
    assert place.there() == set()


def test_what_others_have_is_not_touched(place: Place) -> None:
    (place.path / "in").write_text("theirs")
    local = LocalObjects(place.runtime)
    with pytest.raises(StartError, match=r"fifo .* exists already, and is not ours"):
        local.put_up(place.config("fifo"))
    local.remove()
    assert (place.path / "in").read_text() == "theirs"
    (place.path / "in").unlink()


def test_a_key_file_that_was_there_stays(place: Place) -> None:
    (place.path / "key").write_text("theirs")
    local = LocalObjects(place.runtime)
    local.put_up(place.config("sysv-queue"))
    local.remove()
    assert (place.path / "key").read_text() == "theirs"


def test_what_has_another_identity_is_somebody_elses(place: Place) -> None:
    """Ours was removed behind our back, and its name is in use again."""
    LocalObjects(place.runtime).put_up(place.config("fifo"))
    os.rename(place.names["fifo"], place.path / "ours")
    (place.path / "in").write_text("theirs")
    LocalObjects(place.runtime).remove()
    assert (place.path / "in").read_text() == "theirs"
    (place.path / "in").unlink()


def test_what_was_listed_and_not_confirmed_is_ours(place: Place) -> None:
    """A supervisor killed right before it made something, and right after."""
    place.write_list(LocalObject(FIFO, place.names["fifo"]), LocalObject(BOARD, str(place.run)))
    SysvMemory.create(key_of(place.run), 8192).close()
    local = LocalObjects(place.runtime)
    local.put_up(place.config("fifo"))
    assert place.there() == {BOARD, FIFO}
    assert all(each.identity is not None for each in place.listed())


@pytest.mark.slow
def test_killed_at_every_statement_nothing_is_left_for_good(place: Place) -> None:
    """All is made and removed, killed at the first statement, the second … until it gets through.

    Each goes on with what the one before has left; the last one leaves nothing.
    """
    code, fatal = -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        fatal += 1
        pid = os.fork()
        if pid == 0:
            sys.settrace(Executioner(fatal))
            local = LocalObjects(place.runtime)
            local.put_up(place.all)
            local.put_up(place.config("sysv-queue"))
            local.remove()
            sys.settrace(None)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0
    assert fatal > 200
    assert place.there() == set()
    assert os.listdir(place.path) == ["run"]
    assert os.listdir(place.run) == []


def test_what_is_not_wanted_any_more_goes(place: Place) -> None:
    local = LocalObjects(place.runtime)
    local.put_up(place.all)
    local.put_up(place.config("fifo", board=False))
    assert place.there() == {FIFO}
    local.put_up(place.config("posix-queue"))
    assert place.there() == {BOARD, POSIX_QUEUE}


def test_a_queue_whose_key_file_somebody_has_removed_is_found_all_the_same(place: Place) -> None:
    local = LocalObjects(place.runtime)
    local.put_up(place.config("sysv-queue"))
    key = queue_key(place.names["sysv-queue"])
    (place.path / "key").unlink()
    (place.path / "other").touch()  # so that the next file has another inode
    local.put_up(place.config("sysv-queue"))
    assert SysvQueue.open(queue_key(place.names["sysv-queue"]), 100).count == 0
    (place.path / "key").unlink()
    last = queue_key_of_listed(place)
    local.remove()
    for each in (key, last):
        with pytest.raises(NoServer):
            SysvQueue.open(each, 100)


def queue_key_of_listed(place: Place) -> int:
    (listed,) = [each for each in place.listed() if each.kind == SYSV_QUEUE]
    assert listed.identity is not None
    return listed.identity[1]


def test_permissions_and_owners_are_set_anew_each_time(place: Place) -> None:
    local = LocalObjects(place.runtime)
    local.put_up(place.all)
    assert stat.S_IMODE(os.stat(place.names["fifo"]).st_mode) == 0o620
    kinds: tuple[IngressKind, ...] = ("fifo", "sysv-queue", "posix-queue")
    local.put_up(place.config(*kinds, mode="0660", owner=str(os.getuid()), group=str(os.getgid())))
    assert stat.S_IMODE(os.stat(place.names["fifo"]).st_mode) == 0o660
    with pytest.raises(StartError, match="there is no user no-such-user"):
        local.put_up(place.config("fifo", owner="no-such-user"))
    with pytest.raises(StartError, match="there is no group no-such-group"):
        local.put_up(place.config("fifo", group="no-such-group"))
    local.put_up(place.config("fifo", owner="root", group="root"))


def test_a_place_that_there_is_not_is_an_error(place: Place) -> None:
    local = LocalObjects(place.runtime)
    place.names["fifo"] = str(place.path / "nowhere" / "in")
    with pytest.raises(StartError, match=r"fifo .*/nowhere/in: No such file or directory"):
        local.put_up(place.config("fifo"))


def test_a_list_that_cannot_be_read_is_an_error(place: Place) -> None:
    (place.run / LIST_FILE).write_text("[{]")
    with pytest.raises(StartError, match="local: "):
        LocalObjects(place.runtime)
    (place.run / LIST_FILE).unlink()


def test_a_fifo_keeps_what_is_in_it_while_nobody_reads(place: Place) -> None:
    local = LocalObjects(place.runtime)
    local.put_up(place.config("fifo"))
    with open(place.names["fifo"], "wb") as writer:
        writer.write(b"kept\n")
    reader = os.open(place.names["fifo"], os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 100) == b"kept\n"
    os.close(reader)


def test_whoever_waits_for_room_in_a_posix_queue_is_let_go(place: Place) -> None:
    local = LocalObjects(place.runtime)
    local.put_up(place.config("posix-queue"))
    queue = posix_ipc.MessageQueue(place.names["posix-queue"])
    for _ in range(queue.max_messages):
        queue.send(b"x", timeout=0)
    pid = os.fork()
    if pid == 0:
        queue.send(b"waits", timeout=30)
        os._exit(0)
    local.remove()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    queue.close()
