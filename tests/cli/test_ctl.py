from __future__ import annotations

import pytest

from prefork_chat.cli.ctl import table
from prefork_chat.observing.figures import duration


def test_columns_are_aligned_numbers_on_the_right() -> None:
    rows = [
        {"p_id": 0, "name": "alice", "clients": 12, "address": ""},
        {"p_id": 10, "name": "bo", "clients": 3, "address": "[::1]:7"},
    ]
    assert table(rows) == [
        "WORKER  NAME   CLIENTS  ADDRESS",
        "     0  alice       12  -",
        "    10  bo           3  [::1]:7",
    ]
    assert table([]) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3661, "1h01m"),
        (86_399, "23h59m"),
        (1_062_000, "12d07h"),
    ],
)
def test_a_time_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
