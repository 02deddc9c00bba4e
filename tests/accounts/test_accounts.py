"""Whose a name is: by password, by the kernel's word, and when two want it at once."""

from __future__ import annotations

import os
import pwd
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, ClassVar

import pytest

from prefork_chat.accounts.accounts import NO_UID, Accounts, Verdict, announce_all
from prefork_chat.accounts.logins import NOBODY, Logins
from prefork_chat.accounts.passwords import Passwords
from prefork_chat.accounts.store import FILE, NotMade, StoreFailed
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = b"correct horse"
LOGIN = pwd.getpwuid(os.getuid()).pw_name.lower().encode()
"""A login name of this machine, of the user that runs the tests."""
NO_LOGIN = b"no-login-of-this-machine"


class Opened(Accounts):
    """Accounts that are closed at the end of the test."""

    all: ClassVar[list[Opened]] = []

    def __init__(self, state_dir: Path, announce: Callable[[bytes], None]) -> None:
        super().__init__(state_dir, Logins(), announce)
        self.all.append(self)


@pytest.fixture(autouse=True)
def closed_in_the_end() -> Iterator[None]:
    yield
    while Opened.all:
        Opened.all.pop().close()


class Office:
    """Accounts in a directory, and what has been announced."""

    def __init__(self, state_dir: Path) -> None:
        self.announced: list[bytes] = []
        self.accounts = Opened(state_dir, self.announced.append)

    def enrol(self, name: bytes, password: bytes = SECRET, *, is_owner: bool = False) -> Verdict:
        return self.accounts.set_password(name.lower(), name, password, is_owner=is_owner)

    def identify(self, name: bytes, password: bytes = b"", uid: int = NO_UID) -> Verdict:
        return self.accounts.identify(name.lower(), name, password, uid)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "state")


def test_a_name_is_nobody_s_until_it_is_enrolled(office: Office) -> None:
    assert office.identify(b"Alice") is Verdict.NOBODY
    assert office.enrol(b"Alice") is Verdict.OWNER
    assert office.identify(b"alice") is Verdict.STRANGER
    assert office.identify(b"ALICE", SECRET) is Verdict.OWNER
    assert office.identify(b"alice", b"wrong horse") is Verdict.STRANGER
    assert office.identify(b"bob") is Verdict.NOBODY
    assert office.identify(b"bob", SECRET) is Verdict.STRANGER


def test_a_name_is_announced_before_it_is_committed(tmp_path: Path) -> None:
    seen: list[object] = []

    def look(_key: bytes) -> None:
        with closing(sqlite3.connect(tmp_path / FILE)) as reader:
            seen.append(reader.execute("SELECT count(*) FROM accounts").fetchone()[0])

    accounts = Opened(tmp_path, look)
    accounts.set_password(b"alice", b"alice", SECRET, is_owner=False)
    assert seen == [0]


def test_enrolling_twice_with_the_same_password_comes_to_the_same(office: Office) -> None:
    """A successor asks again what its predecessor may have done."""
    assert [office.enrol(b"alice") for _ in range(2)] == [Verdict.OWNER] * 2
    assert office.enrol(b"alice", b"another one") is Verdict.STRANGER
    assert office.identify(b"alice", SECRET) is Verdict.OWNER


def test_only_the_owner_changes_a_password(office: Office) -> None:
    office.enrol(b"alice")
    for _ in range(2):
        assert office.enrol(b"alice", b"another one", is_owner=True) is Verdict.OWNER
    assert office.identify(b"alice", SECRET) is Verdict.STRANGER
    assert office.identify(b"alice", b"another one") is Verdict.OWNER


def test_the_same_letters_are_the_same_password_however_they_are_typed(office: Office) -> None:
    office.enrol(b"alice", "gru\u0308n ist es".encode())
    assert office.identify(b"alice", "gr\u00fcn ist es".encode()) is Verdict.OWNER


def test_a_local_user_needs_no_password_for_his_login_name(office: Office) -> None:
    uid = os.getuid()
    assert office.identify(LOGIN) is Verdict.NOBODY
    for _ in range(2):
        assert office.identify(LOGIN, uid=uid) is Verdict.OWNER
    assert office.announced[:1] == [LOGIN]
    assert office.identify(NO_LOGIN, uid=uid) is Verdict.NOBODY
    assert office.identify(LOGIN) is Verdict.STRANGER  # there is an account of it now
    assert office.identify(LOGIN, uid=uid + 1) is Verdict.STRANGER
    assert office.identify(LOGIN, SECRET) is Verdict.STRANGER  # which has no password
    assert office.accounts.set_password(LOGIN, LOGIN, SECRET, uid, is_owner=True) is Verdict.OWNER
    assert office.identify(LOGIN, SECRET) is Verdict.OWNER
    assert office.identify(LOGIN, uid=uid) is Verdict.OWNER


def test_a_login_name_cannot_be_enrolled_from_elsewhere(office: Office) -> None:
    assert office.enrol(LOGIN) is Verdict.RESERVED
    assert office.enrol(LOGIN.upper()) is Verdict.RESERVED
    assert office.identify(LOGIN) is Verdict.NOBODY
    uid = os.getuid()
    assert office.accounts.set_password(LOGIN, LOGIN, SECRET, uid, is_owner=False) is Verdict.OWNER
    assert office.identify(LOGIN, uid=uid) is Verdict.OWNER


def test_who_has_no_login_name_is_asked_for_a_password(office: Office) -> None:
    logins = Logins()
    uid = 2**31 - 7
    assert logins.known(uid) is None
    assert logins.learn(uid) == NOBODY == logins.known(uid)
    assert office.identify(b"alice", uid=uid) is Verdict.NOBODY


def test_a_wrong_password_takes_as_long_as_one_for_a_name_that_nobody_has(office: Office) -> None:
    office.enrol(b"alice")
    office.identify(LOGIN, uid=os.getuid())  # an account without a password

    def fastest(name: bytes) -> float:
        seconds = []
        for _ in range(7):
            started = time.process_time()
            assert office.identify(name, b"wrong horse") is Verdict.STRANGER
            seconds.append(time.process_time() - started)
        return min(seconds)

    known = fastest(b"alice")
    for name in (b"nobody", LOGIN):
        assert 0.5 < fastest(name) / known < 2


def test_of_many_who_enrol_the_same_name_at_once_one_gets_it(tmp_path: Path) -> None:
    verdicts: list[tuple[bytes, Verdict]] = []
    start = threading.Barrier(6)

    def enrol(n: int) -> None:
        office = Office(tmp_path)
        password = b"password of %d" % n
        start.wait(PATIENCE_SECONDS)
        verdicts.append((password, office.enrol(b"alice", password)))
        office.accounts.close()  # no other thread can

    threads = [threading.Thread(target=enrol, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    winners = [password for password, verdict in verdicts if verdict is Verdict.OWNER]
    assert len(verdicts) == 6
    assert len(winners) == 1
    assert Office(tmp_path).identify(b"alice", winners[0]) is Verdict.OWNER


def test_of_two_local_users_at_once_both_are_the_same(tmp_path: Path) -> None:
    other = Office(tmp_path)

    def be_quicker(_key: bytes) -> None:
        assert other.identify(LOGIN, uid=os.getuid()) is Verdict.OWNER

    one = Opened(tmp_path, be_quicker)
    assert one.identify(LOGIN, LOGIN, b"", os.getuid()) is Verdict.OWNER
    assert other.announced[0] == LOGIN


def test_all_accounts_are_announced_to_a_daemon_that_starts(tmp_path: Path) -> None:
    announced: list[bytes] = []
    announce_all(tmp_path / "nowhere", announced.append)
    assert not announced
    office = Office(tmp_path)
    office.enrol(b"Alice")
    office.enrol(b"bob")
    office.accounts.close()
    announce_all(tmp_path, announced.append)
    assert sorted(announced) == [b"alice", b"bob"]
    # And to who comes to a file that others have made, or repaired, while he ran.
    late = Office(tmp_path)
    late.identify(b"carol")
    assert sorted(late.announced) == [b"alice", b"bob"]


def test_failures_of_the_file_are_told_apart(tmp_path: Path) -> None:
    in_the_way = tmp_path / "state"
    in_the_way.write_text("")
    office = Office(in_the_way)
    assert office.identify(b"alice") is Verdict.NOBODY
    with pytest.raises(NotMade):
        office.enrol(b"alice")
    with pytest.raises(NotMade):
        office.identify(LOGIN, uid=os.getuid())
    in_the_way.unlink()
    assert office.enrol(b"alice") is Verdict.OWNER


def test_a_hash_that_is_none_is_a_failure_of_the_file(office: Office, tmp_path: Path) -> None:
    office.enrol(b"alice")
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as writer, writer:
        writer.execute("UPDATE accounts SET password = 'none'")
    with pytest.raises(StoreFailed, match="no Argon2 hash"):
        office.identify(b"alice", SECRET)


def test_a_hash_says_its_parameters_and_not_the_password() -> None:
    passwords = Passwords()
    one, other = passwords.protect(SECRET), passwords.protect(SECRET)
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert one != other
    assert SECRET.decode() not in one
    assert passwords.matches(one, SECRET)
    assert not passwords.matches(one, SECRET + b" ")
    assert not passwords.matches(None, SECRET)
