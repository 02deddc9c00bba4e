"""What is too old or too much goes, from the index, too; the rest stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.history.reading import Range, Reader
from prefork_chat.history.retention import DAY_MS, Retention
from prefork_chat.history.search import Indexer, find
from tests.history.talk import numbered, person, say, sort_all, texts

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_chat.history.archive import Archive


def test_messages_older_than_the_bound_go(archive: Archive, reader: Reader) -> None:
    say(archive, "alice", "bob", *(f"old {n}" for n in range(600)), time_ms=5 * DAY_MS)
    say(archive, "alice", "bob", "new one", time_ms=8 * DAY_MS)
    sort_all(archive)
    indexer = Indexer(archive)
    indexer.advance()  # some are indexed, some are not
    retention = Retention(archive, days=2, most_bytes=0)
    steps = 0
    while retention.advance(8 * DAY_MS):
        steps += 1
    assert steps >= 3
    assert texts(reader.everything("bob", (), Range())) == ["new one"]
    while indexer.behind:
        indexer.advance()
    assert not find(reader, "bob", (), "old", Range()).entries
    assert texts(find(reader, "bob", (), "one", Range())) == ["new one"]
    archive.connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def test_without_bounds_nothing_goes(archive: Archive, reader: Reader) -> None:
    say(archive, "alice", "bob", "very old", time_ms=1)
    assert not Retention(archive, days=0, most_bytes=0).advance(10_000 * DAY_MS)
    assert texts(reader.everything("bob", (), Range())) == ["very old"]


def test_the_oldest_go_when_there_are_too_many_bytes_and_the_file_shrinks(
    path: Path, archive: Archive, reader: Reader
) -> None:
    for _ in range(20):
        say(archive, "alice", "bob", *("x" * 900 for _ in range(250)))
    sort_all(archive)
    archive.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    size = path.stat().st_size
    retention = Retention(archive, days=0, most_bytes=1_000_000)
    while retention.advance(1):
        pass
    (entry,) = reader.everything("bob", (), Range(1)).entries
    assert entry.id == 5000
    archive.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert size > 4_000_000
    assert path.stat().st_size < 2_500_000
    assert say(archive, "alice", "bob", "one more") == [5001]


def test_what_waited_for_somebody_too_long_goes(archive: Archive) -> None:
    ids = say(archive, "alice", "bob", *numbered(3), time_ms=1)
    alice, bob = person(archive, "alice"), person(archive, "bob")
    with archive.transaction():
        archive.await_arrival(bob, alice, zip(ids, numbered(3), strict=True))
    sort_all(archive)
    assert Retention(archive, days=1, most_bytes=0).advance(3 * DAY_MS)
    assert not archive.pending(bob, 9)


def test_a_clock_that_was_set_back_costs_nothing_that_is_new(
    archive: Archive, reader: Reader
) -> None:
    say(archive, "alice", "bob", "old", time_ms=1)
    say(archive, "alice", "bob", "new", time_ms=9 * DAY_MS)
    say(archive, "alice", "bob", "with the clock set back", time_ms=2)
    sort_all(archive)
    while Retention(archive, days=2, most_bytes=0).advance(9 * DAY_MS):
        pass
    assert texts(reader.everything("bob", (), Range())) == ["new", "with the clock set back"]
