"""Programs of this machine speak into the chat of a real daemon, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefork_chat import log
from prefork_chat.channels.errors import NoServer
from prefork_chat.channels.key import PROJECT
from prefork_chat.channels.posix import PosixQueue
from prefork_chat.channels.sysv import SysvQueue, system_v_key
from tests.harness.compiler import compile_c
from tests.harness.daemon import Daemon
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness.client import LineClient

PROGRAMS: Final = Path(__file__).parent / "programs"


class Local:
    """A daemon with a FIFO, a System V queue and a POSIX queue."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.fifo = directory / "in"
        self.key_file = directory / "key"
        self.queue = f"/prefork-chat-test-{os.getpid()}-{directory.name}"
        self.config = directory / "chat.toml"
        self.ingress: list[dict[str, object]] = [
            {"kind": "fifo", "path": str(self.fifo), "name": "cron"},
            {"kind": "sysv-queue", "path": str(self.key_file), "name": "sysv"},
            {"kind": "posix-queue", "path": self.queue, "name": "posix"},
        ]
        self.configure()
        self._directory = directory
        self._options = options
        self.daemon = self.start()

    def start(self) -> Daemon:
        self.daemon = Daemon.start(self._directory, config=self.config, **self._options)
        self.wait_until_all_speak()
        return self.daemon

    def finish(self) -> None:
        self.daemon.finish()

    def configure(self, **changes: object) -> None:
        """Write the configuration, with changes to the FIFO's options."""
        self.ingress[0] |= changes
        tables = ""
        for ingress in self.ingress:
            options = "".join(f"{key} = {json.dumps(value)}\n" for key, value in ingress.items())
            tables += f"[[ingress]]\n{options}"
        self.config.write_text(tables)

    def wait_until_all_speak(self) -> None:
        for ingress in self.ingress:
            self.daemon.log.wait_for(log.INGRESS_JOINED, ingress=ingress["name"])

    def sysv(self) -> SysvQueue:
        return SysvQueue.open(system_v_key(self.key_file, PROJECT), 1024)

    def porter_pid(self) -> int:
        return int(self.daemon.log.events(log.ATTENDANT_SPAWNED, name="porter")[-1]["pid"])

    def replace_porter(self) -> None:
        """Kill the porter, and wait until its successor is there."""
        generation = len(self.daemon.log.events(log.ATTENDANT_READY, name="porter")) + 1
        self.daemon.log.expect(log.ATTENDANT_EXITED, log.ATTENDANT_THROTTLED)
        os.kill(self.porter_pid(), signal.SIGKILL)
        self.daemon.log.wait_for(log.ATTENDANT_READY, name="porter", generation=generation)

    def write(self, *lines: str) -> None:
        """Write lines to the FIFO as a shell would: open, write, close."""
        self.fifo.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Local]]:
    with ExitStack() as undo:

        def begin(**options: Any) -> Local:
            local = Local(tmp_path, **options)
            undo.callback(local.finish)
            return local

        yield begin


@pytest.fixture
def local(start: Callable[..., Local]) -> Local:
    return start()


def receive(client: LineClient, count: int) -> list[str]:
    return client.read_lines(count)


def test_a_shell_speaks_through_the_fifo(local: Local) -> None:
    bob = local.daemon.join("bob")
    for number in range(3):  # its writers come and go
        local.write(f"CHAT bob backup {number} done")
        bob.expect(f"CHAT cron backup {number} done")


def test_c_programs_speak_through_queues_to_netcat(local: Local, tmp_path: Path) -> None:
    msgsnd = compile_c(PROGRAMS / "msgsnd.c", tmp_path)
    mq_send = compile_c(PROGRAMS / "mq_send.c", tmp_path, "-lrt")
    address = local.daemon.addresses[0]
    with subprocess.Popen(
        ["nc", address.host, str(address.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as netcat:
        assert netcat.stdin is not None
        assert netcat.stdout is not None
        netcat.stdin.write("JOIN bob\n")
        netcat.stdin.flush()
        assert netcat.stdout.readline().startswith("OK HELO")
        assert netcat.stdout.readline() == "OK JOIN bob\n"
        subprocess.run([msgsnd, local.key_file, "CHAT bob by msgsnd"], check=True)
        assert netcat.stdout.readline() == "CHAT sysv by msgsnd\n"
        subprocess.run([mq_send, local.queue, "CHAT bob by mq_send"], check=True)
        assert netcat.stdout.readline() == "CHAT posix by mq_send\n"
        netcat.stdin.write("LEAV\n")
        netcat.stdin.flush()
        assert netcat.stdout.readline() == "OK LEAV\n"


def test_bad_lines_are_logged_and_good_ones_go_on(local: Local) -> None:
    local.daemon.log.expect(log.INGRESS_REJECTED)
    bob = local.daemon.join("bob")
    local.write(
        "", "JOIN mallory", "CHAT bob", "CHAT b&b x", "x" * 5000, "\xff\xfe", "CHAT bob good"
    )
    bob.expect("CHAT cron good")
    told = local.daemon.log.wait_for(log.INGRESS_REJECTED)
    assert told["ingress"] == "cron"
    assert told["reason"] == "not of the form CHAT <name or #room> <message>"
    assert "mallory" not in json.dumps(told), "never what was said"
    local.sysv().put(memoryview(b"nonsense"), 77, 0)
    local.sysv().put(memoryview(b"CHAT bob one\nCHAT bob two\n\0"), 3, 0)
    assert receive(bob, 2) == ["CHAT sysv one", "CHAT sysv two"]


def test_only_those_who_are_allowed_hear_of_it(start: Callable[..., Local]) -> None:
    local = start()
    local.configure(to=["bob", "#ops"])
    reload(local)
    local.daemon.log.expect(log.INGRESS_REJECTED)
    alice, bob = local.daemon.join("alice"), local.daemon.join("Bob")
    local.write("CHAT alice psst", "CHAT BOB hello")
    bob.expect("CHAT cron hello")
    told = local.daemon.log.wait_for(log.INGRESS_REJECTED)
    assert told["reason"] == "to whom it may not speak"
    alice.expect_nothing()


def reload(local: Local, code: int = 0) -> str:
    """Have the configuration loaded; return the complaint."""
    done = run("ctl", "--runtime-dir", str(local.daemon.directory), "reload")
    assert done.returncode == code, done
    return done.stderr


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefork_chat", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_rooms_are_spoken_to(local: Local) -> None:
    bob = local.daemon.join("bob")
    bob.send("ENTR #ops")
    bob.read_until("OK ENTR #ops n=1")
    local.write("CHAT #Ops backup done", "CHAT #ops and checked")
    bob.expect("CHAT #ops cron backup done", "CHAT #ops cron and checked")
    local.daemon.replace_worker(0)
    local.daemon.replace_worker(1)
    local.write("CHAT #ops still here")
    bob.expect("CHAT #ops cron still here")


def test_its_rate_is_kept(start: Callable[..., Local]) -> None:
    local = start()
    local.configure(lines_per_second=20, burst_lines=1)
    reload(local)
    bob = local.daemon.join("bob")
    local.write(*(f"CHAT bob {number}" for number in range(6)))
    bob.expect("CHAT cron 0")
    begun = time.monotonic()
    assert receive(bob, 5) == [f"CHAT cron {number}" for number in range(1, 6)]
    assert time.monotonic() - begun > 0.2


def test_nothing_is_lost_or_doubled_while_workers_are_killed(local: Local) -> None:
    bob = local.daemon.join("bob")
    total = 300

    def write() -> None:
        for number in range(total):
            local.write(f"CHAT bob {number}")

    writer = threading.Thread(target=write)
    writer.start()
    heard = receive(bob, 50)
    for p_id in (0, 1, 0):
        local.daemon.replace_worker(p_id)
        heard += receive(bob, 50)
    heard += receive(bob, total - len(heard))
    writer.join()
    assert heard == [f"CHAT cron {number}" for number in range(total)]
    bob.expect_nothing()


def test_what_waits_in_a_queue_outlives_the_porter(local: Local) -> None:
    bob = local.daemon.join("bob")
    os.kill(local.porter_pid(), signal.SIGSTOP)
    for number in range(5):
        local.sysv().put(memoryview(b"CHAT bob %d" % number), 1, 0)
        PosixQueue.open(local.queue).put(memoryview(b"CHAT bob %d" % number))
        local.write(f"CHAT bob {number}")
    local.replace_porter()
    heard = receive(bob, 15)
    for name in ("cron", "sysv", "posix"):
        mine = [line for line in heard if line.startswith(f"CHAT {name} ")]
        assert mine == [f"CHAT {name} {number}" for number in range(5)]
    bob.expect_nothing()


def test_an_upgrade_loses_nothing(local: Local) -> None:
    bob = local.daemon.join("bob")
    local.daemon.signal(signal.SIGUSR2)
    number = 0
    while not local.daemon.log.events(log.REPLACEMENT_FINISHED):
        local.write(f"CHAT bob {number}")
        bob.expect(f"CHAT cron {number}")
        number += 1
    local.daemon.log.wait_for(log.ATTENDANT_READY, name="porter", generation=2)
    local.write("CHAT bob after")
    bob.expect("CHAT cron after")


def test_permissions_are_as_configured(start: Callable[..., Local]) -> None:
    local = start()
    assert stat.S_IMODE(local.fifo.stat().st_mode) == 0o620
    local.configure(mode="0642", group="daemon")
    reload(local)
    assert stat.S_IMODE(local.fifo.stat().st_mode) == 0o642
    assert local.fifo.group() == "daemon"


def test_a_reload_makes_and_removes_ways_in(local: Local, tmp_path: Path) -> None:
    other = tmp_path / "other"
    local.ingress[0] |= {"path": str(other), "name": "other"}
    del local.ingress[1:]
    local.configure()
    reload(local)
    local.daemon.log.wait_for(log.INGRESS_JOINED, ingress="other")
    assert not local.fifo.exists()
    assert not local.key_file.exists()
    with pytest.raises(NoServer):
        PosixQueue.open(local.queue)
    bob = local.daemon.join("bob")
    other.write_text("CHAT bob from elsewhere\n")
    bob.expect("CHAT other from elsewhere")


def test_a_way_in_that_cannot_be_made_keeps_what_was(local: Local, tmp_path: Path) -> None:
    local.daemon.log.expect(log.CONFIG_REJECTED)
    stranger = tmp_path / "stranger"
    stranger.write_text("mine")
    local.configure(path=str(stranger))
    assert f"fifo {stranger} exists already, and is not ours" in reload(local, code=1)
    assert stranger.read_text() == "mine"
    bob = local.daemon.join("bob")
    local.write("CHAT bob still here")
    bob.expect("CHAT cron still here")


def test_a_file_in_the_way_is_a_clear_error_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_text("mine")
    config = tmp_path / "chat.toml"
    config.write_text(f'[[ingress]]\nkind = "fifo"\npath = "{path}"\nname = "cron"\n')
    runtime = ("--runtime-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state"))
    done = run("serve", "--config", str(config), *runtime, "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert f"prefork-chat: fifo {path} exists already, and is not ours" in done.stderr
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path / "run") == []


def test_a_killed_supervisor_leaves_what_the_next_one_goes_on_with(local: Local) -> None:
    """What waits in a System V queue is still there, and all is gone at the end."""
    killed = local.daemon
    old_id = local.sysv().id
    porter = local.porter_pid()
    os.kill(porter, signal.SIGSTOP)
    local.sysv().put(memoryview(b"CHAT nobody still waiting"), 1, 0)
    os.kill(killed.pid, signal.SIGKILL)
    os.kill(porter, signal.SIGKILL)
    killed.wait()
    until(lambda: not killed.survivors(), "its processes to end")
    assert (local.sysv().id, local.sysv().count) == (old_id, 1)
    assert local.fifo.exists()
    local.start()
    assert local.sysv().id == old_id
    until(lambda: local.sysv().count == 0, "what waited to be taken")
    local.daemon.finish()
    killed.abandon()
    assert not local.fifo.exists()
    assert not local.key_file.exists()
    with pytest.raises(NoServer):
        PosixQueue.open(local.queue)


def test_a_drain_does_not_wait_for_them(local: Local) -> None:
    local.daemon.signal(signal.SIGQUIT)
    assert local.daemon.wait() == 0


def test_a_name_that_is_taken_is_waited_for(start: Callable[..., Local]) -> None:
    local = start()
    local.daemon.log.expect(log.INGRESS_REFUSED)
    thief = local.daemon.join("squatter")
    bob = local.daemon.join("bob")
    local.configure(name="squatter")
    reload(local)
    told = local.daemon.log.wait_for(log.INGRESS_REFUSED)
    assert (told["ingress"], told["code"]) == ("squatter", "INUSE")
    local.write("CHAT bob later")
    thief.leave()
    local.daemon.log.wait_for(log.INGRESS_JOINED, ingress="squatter")
    bob.expect("CHAT squatter later")
