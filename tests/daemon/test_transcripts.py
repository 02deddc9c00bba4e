"""`prefork-chat history` as people and scripts call it, against a running daemon."""

from __future__ import annotations

import json
import os
import pwd
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.daemon.registered import PASSWORD, register
from tests.daemon.test_history import come
from tests.harness.program import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon


def history(
    daemon: Daemon, *arguments: str, name: str = "alice", password: str = PASSWORD, server: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefork_chat", "history", "--name", name]
    command += ["--server", server or str(daemon.addresses[0]), *arguments]
    environ = {**os.environ, "PREFORK_CHAT_PASSWORD": password}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    return start_with_talk(start_daemon)


def start_with_talk(start_daemon: StartDaemon) -> Daemon:
    """Where alice and bob have talked, and carol has not."""
    daemon = start_daemon(program="tests.daemon.lenient")
    register(daemon, "alice", "bob", "carol")
    with come(daemon, "alice") as alice, come(daemon, "bob") as bob:
        alice.ask("CHAT bob hi  there", "OK CHAT bob")
        bob.expect("CHAT alice hi  there")
        bob.ask("CHAT carol are you there?", "OK CHAT carol stored")
    return daemon


_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_everybody_gets_his_own_transcript_and_no_other(daemon: Daemon) -> None:
    said = {
        "alice": ["alice -> bob: hi  there"],
        "bob": ["alice -> bob: hi  there", "bob -> carol: are you there?"],
        "carol": ["bob -> carol: are you there?"],
    }
    for name, lines in said.items():
        ended = history(daemon, name=name)
        assert ended.returncode == 0, ended.stderr
        told = ended.stdout.splitlines()
        assert [re.sub(f"^{_TIME} ", "", line) for line in told] == lines
    with come(daemon, "carol") as carol:  # reading it has not delivered it
        carol.expect("CHAT bob are you there?")


@pytest.mark.parametrize(("name", "password"), [("alice", "wrong"), ("alice", ""), ("nobody", "x")])
def test_who_does_not_know_the_password_gets_nothing(
    library: Daemon, name: str, password: str
) -> None:
    ended = history(library, name=name, password=password)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("prefork-chat: ")


def test_peer_and_since_choose(library: Daemon) -> None:
    assert history(library, "--peer", "carol", name="bob").stdout.count("\n") == 1
    assert not history(library, "--peer", "carol").stdout
    assert not history(library, "--since", "2099-01-01").stdout
    assert history(library, "--since", "2026-01-01T12:00").stdout.count("\n") == 1
    assert history(library, "--since", "soon").returncode == 2
    assert history(library, "--peer", "bob", "--room", "#dev").returncode == 2
    assert history(library, "--peer", "#").returncode == 2
    assert history(library, "restore").returncode == 2


def test_a_transcript_goes_into_a_file_that_nobody_else_can_read(
    library: Daemon, tmp_path: Path
) -> None:
    file = tmp_path / "alice.jsonl"
    file.write_text("older")
    file.chmod(0o644)
    ended = history(library, "--format", "jsonl", "-o", str(file))
    assert (ended.returncode, ended.stdout) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (told,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert re.fullmatch(_TIME, told.pop("time"))
    assert told == {"id": 1, "sender": "alice", "recipient": "bob", "text": "hi  there"}
    assert history(library, "-o", str(tmp_path)).returncode == 2


def test_more_than_one_answer_holds_comes_in_order(daemon: Daemon) -> None:
    with come(daemon, "alice") as alice:
        alice.send(*(f"CHAT carol message {number}" for number in range(450)))
        for _ in range(450):
            alice.expect("OK CHAT carol stored")
    told = history(daemon, "--peer", "carol").stdout.splitlines()
    assert [line.rpartition(" ")[2] for line in told] == [str(number) for number in range(450)]


def test_a_room_is_read_unseen(daemon: Daemon) -> None:
    with come(daemon, "bob") as bob, come(daemon, "alice"):  # whose name is taken, and may read
        bob.ask("ENTR #dev", "OK ENTR #dev n=1")
        bob.ask("HELO pres", "OK HELO pres")
        bob.ask("CHAT #dev first", "OK CHAT #dev n=0")
        for name in ("alice", "carol"):
            ended = history(daemon, "--room", "#Dev", name=name)
            assert ended.stdout.endswith(" bob -> #dev: first\n"), ended.stderr
        bob.ask("CHAT #dev second", "OK CHAT #dev n=0")  # nobody came, nobody is there
    with come(daemon, "carol") as carol:  # and what waited for her still does
        carol.expect("CHAT bob are you there?")


def test_a_local_user_needs_no_password(start_daemon: StartDaemon, tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/chat"
    daemon = start_daemon(listen=["127.0.0.1:0", path])
    login = pwd.getpwuid(os.getuid()).pw_name
    register(daemon, "bob")
    with come(daemon, "bob") as bob:
        assert history(daemon, name=login, password="", server=path).stdout == ""
        bob.ask(f"CHAT {login} hi", f"OK CHAT {login} stored")
    ended = history(daemon, name=login, password="", server=path)
    assert ended.stdout.endswith(f" bob -> {login}: hi\n")
    assert history(daemon, name="bob", password="", server=path).returncode == 1


def test_without_a_server_it_says_so(library: Daemon, tmp_path: Path) -> None:
    ended = history(library, server=f"unix:{tmp_path}/nobody")
    assert ended.returncode == 3


def test_the_operator_copies_the_database_while_it_is_written(
    library: Daemon, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    state = library.directory.parent / "state"
    config.write_text(f'server.state_dir = "{state}"\n')
    copy = tmp_path / "copy.db"
    ended = history(library, "--config", str(config), "backup", str(copy))
    assert ended.returncode == 0, ended.stderr
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        rows = "(SELECT count(*) FROM messages)"
        unsorted = "(SELECT coalesce(sum(count), 0) FROM tail)"
        assert connection.execute(f"SELECT {rows} + {unsorted}").fetchone() == (2,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    config.write_text(f'server.state_dir = "{tmp_path}/nowhere"\n')
    ended = history(library, "--config", str(config), "backup", str(copy))
    assert ended.returncode == 1
