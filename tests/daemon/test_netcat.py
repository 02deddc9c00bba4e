"""The client that everybody has: the real `nc`, driven as a person and as a script drive it."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness.client import GREETING
from tests.harness.processes import running
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon

NC = shutil.which("nc")

pytestmark = pytest.mark.skipif(NC is None, reason="needs nc")


def test_two_people_with_netcat_talk_to_each_other(daemon: Daemon) -> None:
    address = daemon.addresses[0]
    with (
        running("nc", address.host, str(address.port)) as alice,
        running("nc", address.host, str(address.port)) as bob,
    ):
        for person, name in ((alice, "alice"), (bob, "bob")):
            assert re.fullmatch(GREETING, hear(person))
            type_line(person, f"JOIN {name}")
            assert hear(person) == f"OK JOIN {name}"
        type_line(alice, "CHAT bob hello Bob")
        assert hear(alice) == "OK CHAT bob"
        assert hear(bob) == "CHAT alice hello Bob"
        type_line(bob, "CHAT alice hello Alice")
        assert hear(bob) == "OK CHAT alice"
        assert hear(alice) == "CHAT bob hello Alice"
        type_line(alice, "LEAV")
        assert hear(alice) == "OK LEAV"
        assert alice.stdin is not None
        alice.stdin.close()  # until then netcat waits for more to send
        assert alice.wait(PATIENCE_SECONDS) == 0


def test_a_script_pipes_lines_into_netcat_and_gets_its_receipt(daemon: Daemon) -> None:
    bob = daemon.join("b", 1)
    address = daemon.addresses[0]
    script = f"printf 'JOIN a\\nCHAT b hi\\n' | nc -N {address.host} {address.port}"
    for _ in range(3):
        lines = run_script(script)
        assert lines[1:] == ["OK JOIN a", "OK CHAT b"]
        bob.expect("CHAT a hi")


def test_netcat_reaches_a_unix_socket(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon(listen=["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"])
    bob = daemon.join("b")
    path = daemon.addresses[1].path
    assert run_script(f"printf 'JOIN a\\nCHAT b hi\\n' | nc -N -U {path}")[1:] == [
        "OK JOIN a",
        "OK CHAT b",
    ]
    bob.expect("CHAT a hi")


def run_script(script: str) -> list[str]:
    result = subprocess.run(
        script, shell=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    return result.stdout.splitlines()


def type_line(person: subprocess.Popen[str], line: str) -> None:
    assert person.stdin is not None
    person.stdin.write(line + "\n")
    person.stdin.flush()


def hear(person: subprocess.Popen[str]) -> str:
    assert person.stdout is not None
    return person.stdout.readline().removesuffix("\n")
