"""C programs at either end of the System V mechanisms: the formats are what their modules say."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from prefork_chat.channels.errors import NoServer, PeerGone
from prefork_chat.channels.key import Key
from prefork_chat.channels.mechanisms import connect, serve
from prefork_chat.channels.names import SHARED_MEMORY, SYSV_QUEUE
from prefork_chat.channels.sysv import SysvMemory, SysvQueue
from tests.channels.command import DEADLINE_SECONDS, Command, end, started
from tests.channels.traces import traces
from tests.registry.processes import until

if TYPE_CHECKING:
    from prefork_chat.channels.channel import Sender

_SOURCES: Final = Path(__file__).parent / "c"
_PROGRAMS: Final = {SYSV_QUEUE: "queue", SHARED_MEMORY: "memory"}
_DATA: Final = os.urandom(3_000_000)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The programs by mechanism, compiled without a warning."""
    folder = tmp_path_factory.mktemp("c")
    for name in _PROGRAMS.values():
        flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]
        source = str(_SOURCES / f"{name}.c")
        subprocess.run(["gcc", *flags, "-o", str(folder / name), source], check=True)
    return {mechanism: str(folder / name) for mechanism, name in _PROGRAMS.items()}


@pytest.fixture(params=_PROGRAMS)
def stranger(request: pytest.FixtureRequest) -> str:
    """The mechanisms that C programs can speak."""
    return str(request.param)


def test_a_c_program_reads_what_the_command_serves(
    stranger: str, programs: dict[str, str], key: Path, ledger: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(_DATA)
    words = Command(key, ledger).channel("serve", stranger, str(tmp_path / "data"))
    with started(words) as server:
        until(lambda: _is_ready(stranger, key))
        with started([programs[stranger], "read", str(key)]) as reader:
            code, out, _ = end(reader)
        assert (code, out == _DATA) == (0, True)
        assert end(server)[0] == 0


def test_the_command_reads_what_a_c_program_serves(
    stranger: str, programs: dict[str, str], key: Path, ledger: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(_DATA)
    with (tmp_path / "data").open("rb") as data:
        server = started([programs[stranger], "serve", str(key)], stdin=data.fileno())
        with server as process:
            words = Command(key, ledger).channel("read", stranger, "--wait", "20")
            result = Command(key, ledger).run(words)
            assert (result.returncode, result.stdout == _DATA) == (0, True), result.stderr
            assert end(process)[0] == 0


def test_a_c_reader_that_is_killed_is_noticed(
    stranger: str, programs: dict[str, str], key: Path, ledger: Path
) -> None:
    words = [programs[stranger], "read", str(key)]
    with serve(stranger, key, ledger) as sender, started(words) as reader:
        sender.wait_for_client(DEADLINE_SECONDS)
        reader.send_signal(signal.SIGKILL)
        with pytest.raises(PeerGone):
            send_for_ever(sender)


def test_a_c_server_that_is_killed_is_noticed_and_stays_a_stranger(
    stranger: str, programs: dict[str, str], key: Path, ledger: Path
) -> None:
    """What is not in the ledger is never removed: here by the test itself."""
    words = [programs[stranger], "serve", str(key)]
    with started(words, stdin=subprocess.PIPE) as server:
        with connect(stranger, key, ledger, DEADLINE_SECONDS) as receiver:
            server.send_signal(signal.SIGKILL)
            with pytest.raises(PeerGone):
                receiver.receive(DEADLINE_SECONDS)
        command = Command(key, ledger)
        result = command.run(command.channel("read", stranger))
        assert result.returncode == 5
        assert command.run(command.words("clean")).stdout == b""
        result = command.run(command.channel("serve", stranger))
        assert result.returncode == 1
        assert b"exists already, and is not ours" in result.stderr
        left = traces(key, ledger)
        assert left
    for trace in left:
        kind, number = trace.split()
        option = {"msg": "-Q", "shm": "-M", "sem": "-S"}[kind]
        subprocess.run(["ipcrm", option, number], check=True)


def send_for_ever(sender: Sender) -> None:
    """Send until the sender raises."""
    while True:
        sender.send(b"x" * 60_000, DEADLINE_SECONDS)


def _is_ready(mechanism: str, key: Path) -> bool:
    """Say whether the server has made all: the queue, or the memory with its magic, made last."""
    number = Key.of(key).number
    try:
        if mechanism == SYSV_QUEUE:
            return SysvQueue.open(number, 1).count > 0
        memory = SysvMemory.open(number)
    except NoServer:
        return False
    is_ready = bytes(memory.view[:4]) == b"PCSM"
    memory.close()
    return is_ready
