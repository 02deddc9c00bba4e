"""What accounts say to each other is kept, and what is for those who are away waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.history.reading import Range, Reader
from prefork_chat.history.schema import FILE_NAME
from prefork_chat.history.search import STEP_ROWS
from tests.daemon.registered import PASSWORD, register
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon


def come(daemon: Daemon, name: str) -> LineClient:
    client = daemon.connect()
    client.ask(f"JOIN {name} {PASSWORD}", f"OK JOIN {name}")
    return client


def stored(daemon: Daemon, user: str) -> Sequence[str]:
    """Return what the history has of a user's, as `from text`."""
    reader = Reader(daemon.directory.parent / "state" / FILE_NAME)
    try:
        page = reader.everything(user, (), Range(10_000))
    finally:
        reader.close()
    return [f"{entry.sender} {entry.text}" for entry in page.entries]


def test_what_accounts_say_to_each_other_is_stored_before_it_is_confirmed(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    alice.ask("CHAT bob hello there", "OK CHAT bob")
    assert stored(daemon, "bob") == ["alice hello there"]
    bob.expect("CHAT alice hello there")
    bob.ask("@7 CHAT Alice hi", "@7 OK CHAT Alice")
    assert stored(daemon, "alice") == ["alice hello there", "bob hi"]


def test_what_guests_say_is_not_stored(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice")
    alice, guest = come(daemon, "alice"), daemon.join("guest")
    alice.ask("CHAT guest hi", "OK CHAT guest")
    guest.expect("CHAT alice hi")
    guest.ask("CHAT alice hi yourself", "OK CHAT alice")
    assert stored(daemon, "alice") == []


def test_a_message_for_an_account_that_is_away_waits_for_it(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob")
    alice, guest = come(daemon, "alice"), daemon.join("guest")
    alice.ask("CHAT bob first", "OK CHAT bob stored")
    guest.ask("@9 CHAT BOB second", "@9 OK CHAT BOB stored")
    alice.ask("CHAT bob third", "OK CHAT bob stored")
    bob = come(daemon, "bob")
    for line in ("CHAT alice first", "CHAT guest second", "CHAT alice third"):
        bob.expect(line)
    bob.leave()
    alice.ask("CHAT bob fourth", "OK CHAT bob stored")
    bob = come(daemon, "bob")
    bob.expect("CHAT alice fourth")
    bob.ask("PING", "OK PING")
    assert stored(daemon, "bob") == [
        "alice first",
        "~guest second",
        "alice third",
        "alice fourth",
    ]


def test_a_name_that_is_no_account_is_not_away(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice")
    with come(daemon, "alice") as alice:
        alice.send("CHAT carol hi")
        alice.expect_error("CHAT", "NOUSER", "carol")


def test_more_than_fits_at_once_comes_in_order(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob")
    alice = come(daemon, "alice")
    for number in range(250):
        alice.send(f"CHAT bob message {number}")
    for _ in range(250):
        alice.expect("OK CHAT bob stored")
    bob = come(daemon, "bob")
    for number in range(250):
        bob.expect(f"CHAT alice message {number}")
    bob.ask("PING", "OK PING")


def test_without_history_nobody_is_away(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(history_enabled=False)
    register(daemon, "alice", "bob")
    alice = come(daemon, "alice")
    alice.send("CHAT bob hi")
    alice.expect_error("CHAT", "NOUSER", "bob")
    bob = come(daemon, "bob")
    alice.ask("CHAT bob hi", "OK CHAT bob")
    bob.expect("CHAT alice hi")
    assert not (daemon.directory.parent / "state" / FILE_NAME).exists()


def test_after_a_flood_all_is_sorted_and_indexed_at_once_and_reads_as_before(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob")
    count = 4 * STEP_ROWS
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    alice.send(*(f"CHAT bob message {number}" for number in range(count)))
    for number in range(count):
        bob.expect(f"CHAT alice message {number}")
        alice.expect("OK CHAT bob")
    newest = [f"DATA HIST {number + 1} " for number in range(count - 50, count)]

    def is_as_it_was_said() -> bool:
        bob.send("HIST 50", "FIND message")
        *lines, end = bob.read_until("OK HIST .*")
        found = bob.read_until("OK FIND .*")
        assert [line[: len(start)] for line, start in zip(lines, newest, strict=True)] == newest
        assert end == "OK HIST n=50 more=1"
        assert found[-1] == "OK FIND n=20 more=1"
        return is_all_indexed(daemon, count)

    until(is_as_it_was_said, "all to be sorted and indexed")
    assert is_as_it_was_said()


def is_all_indexed(daemon: Daemon, count: int) -> bool:
    """Say whether so many messages are sorted and indexed, and nothing is in the tail."""
    reader = Reader(daemon.directory.parent / "state" / FILE_NAME)
    try:
        with reader.snapshot() as connection:
            facts = dict(connection.execute("SELECT name, value FROM facts"))
            tail = connection.execute("SELECT count(*) FROM tail").fetchone()
    finally:
        reader.close()
    return (facts["last"], facts["indexed"], tail) == (count, count, (0,))
