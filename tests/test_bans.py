"""Bans and mutes: for whom they hold, and that their file is always whole."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from prefork_chat import bans
from prefork_chat.bans import BadTarget, Ban, Bans, applies_to, parse_target, with_ban, without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_800_000_000.0


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Mallory", "mallory"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::/32"),
    ],
)
def test_a_target_is_a_name_an_address_or_a_network(text: str, target: str) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "#dev", "two words", "ünsinn", "1.2.3.4/99", "x" * 33])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(BadTarget):
        parse_target(text)


@pytest.mark.parametrize(
    ("target", "key", "host", "does_apply"),
    [
        ("mallory", b"mallory", "", True),
        ("mallory", b"mallory2", "192.0.2.7", False),
        ("192.0.2.7", b"alice", "192.0.2.7", True),
        ("192.0.2.7", b"alice", "::ffff:192.0.2.7", True),
        ("192.0.2.0/24", b"", "192.0.2.200", True),
        ("192.0.2.0/24", b"", "192.0.3.1", False),
        ("192.0.2.7", b"192.0.2.7", "127.0.0.1", True),
        ("fe80::/10", b"", "fe80::1%eth0", True),
        ("0.0.0.0/0", b"alice", "", False),
        ("0.0.0.0/0", b"alice", "::1", False),
    ],
)
def test_a_target_applies_to_names_and_addresses(
    target: str, key: bytes, host: str, does_apply: bool
) -> None:
    assert applies_to(target, key, host) is does_apply


def test_what_is_written_holds_at_once_and_until_its_time(directory: int, tmp_path: Path) -> None:
    seen = Bans(tmp_path)
    assert Bans(tmp_path).are_any is False
    ban = Ban("ban", "mallory", NOW, NOW + 60, "spam")
    bans.change(directory, lambda others: with_ban(others, ban), NOW)
    assert seen.are_any
    assert not seen.has_addresses
    assert seen.of_name("ban", b"mallory", NOW + 59) == ban
    assert seen.of_name("ban", b"mallory", NOW + 60) is None
    assert seen.of_name("mute", b"mallory", NOW) is None
    assert seen.of_name("ban", b"mall\xffory", NOW) is None
    bans.change(directory, lambda others: without(others, "ban", "mallory"), NOW)
    assert seen.of_name("ban", b"mallory", NOW) is None
    assert not seen.are_any


def test_of_several_bans_of_an_address_the_longest_is_told(directory: int, tmp_path: Path) -> None:
    short = Ban("ban", "192.0.2.7", NOW, NOW + 60)
    long = Ban("ban", "192.0.2.0/24", NOW, NOW + 600)
    bans.change(directory, lambda _: [short, long, Ban("mute", "192.0.2.7", NOW)], NOW)
    seen = Bans(tmp_path)
    assert seen.has_addresses
    assert seen.of_address("192.0.2.7", NOW) == long
    assert seen.of_address("192.0.2.7", NOW + 60) == long
    assert seen.of_address("192.0.2.7", NOW + 600) is None
    assert seen.of_address("198.51.100.1", NOW) is None
    assert seen.of_address("", NOW) is None
    forever = Ban("ban", "192.0.0.0/16", NOW)
    bans.change(directory, lambda others: with_ban(others, forever), NOW)
    assert seen.of_address("192.0.2.7", NOW) == forever


def test_a_second_ban_replaces_the_first_and_what_is_over_goes(directory: int) -> None:
    bans.change(directory, lambda _: [Ban("ban", "old", NOW, NOW + 1)], NOW)
    kept = bans.change(
        directory, lambda others: with_ban(others, Ban("ban", "mallory", NOW)), NOW + 2
    )
    assert [ban.target for ban in kept] == ["mallory"]
    again = Ban("ban", "mallory", NOW, NOW + 9)
    kept = bans.change(directory, lambda others: with_ban(others, again), NOW)
    assert kept == bans.load(directory) == [again]


def test_terms_tell_until_when_and_why() -> None:
    assert bans.terms("") == ""
    assert bans.terms("spam") == ": spam"
    assert bans.terms("", 0.0) == " until 1970-01-01 00:00 UTC"
    assert Ban("ban", "x", NOW, 60.0, "spam").terms == " until 1970-01-01 00:01 UTC: spam"


def test_a_file_that_cannot_be_read_leaves_what_was_known(
    directory: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = Bans(tmp_path)
    bans.change(directory, lambda _: [Ban("ban", "mallory", NOW)], NOW)
    assert seen.of_name("ban", b"mallory", NOW)
    (tmp_path / bans.FILE_NAME).write_text("{")
    for _ in range(3):
        assert seen.of_name("ban", b"mallory", NOW)
    assert "".join(capfd.readouterr()).count("bans.unreadable") == 1
    with pytest.raises(ValueError, match=r"^bans.jsonl, line 1: "):
        bans.change(directory, lambda _: [], NOW)
    assert (tmp_path / bans.FILE_NAME).read_text() == "{"
    (tmp_path / bans.FILE_NAME).unlink()
    assert not seen.are_any


def test_a_directory_that_cannot_be_looked_into_bans_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert not Bans(tmp_path / "file").are_any
    assert "bans.unreadable" in "".join(capfd.readouterr())


def _add(path: Path, first: int, count: int) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(first, first + count):
        bans.change(
            directory,
            lambda others, n=number: with_ban(others, Ban("ban", f"n{n}", NOW)),  # type: ignore[misc]
            NOW,
        )


def test_several_writers_lose_nothing_of_each_other(directory: int, tmp_path: Path) -> None:
    spawning = get_context("spawn")
    writers = [spawning.Process(target=_add, args=(tmp_path, 100 * n, 30)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert len(bans.load(directory)) == 90


def test_a_writer_that_is_killed_leaves_the_file_whole(directory: int, tmp_path: Path) -> None:
    spawning = get_context("spawn")
    writer = spawning.Process(target=_add, args=(tmp_path, 0, 100_000))
    writer.start()
    seen = Bans(tmp_path)
    deadline = time.monotonic() + 30
    while not seen.of_name("ban", b"n20", NOW):
        assert time.monotonic() < deadline
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    targets = [ban.target for ban in bans.load(directory)]
    assert targets == [f"n{number}" for number in range(len(targets))]
    _add(tmp_path, 100_000, 1)
    assert bans.load(directory)[-1].target == "n100000"
