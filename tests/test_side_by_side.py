from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.side_by_side import claimed_items, failed_tests

if TYPE_CHECKING:
    import pytest

MODULES = 5
ITEMS: Any = [
    SimpleNamespace(path=Path(f"test_{module}.py"), name=f"{module}-{number}")
    for module in range(MODULES)
    for number in range(3)
]


def names(items: list[pytest.Item]) -> list[str]:
    return [item.name for item in items]


def test_each_module_is_begun_by_one_process(tmp_path: Path) -> None:
    one, other = claimed_items(ITEMS, tmp_path), claimed_items(ITEMS, tmp_path)
    first, second = [next(one)], [next(other)]
    first += [next(one) for _ in range(8)]  # the rest of its module, and two more
    second += [next(other) for _ in range(5)]  # the same
    assert names(first) == [f"{module}-{number}" for module in (0, 2, 3) for number in range(3)]
    assert names(second) == [f"{module}-{number}" for module in (1, 4) for number in range(3)]
    assert not [*one, *other]


def test_who_finds_no_module_takes_tests_from_the_ends_of_the_others(tmp_path: Path) -> None:
    one, two = claimed_items(ITEMS, tmp_path), claimed_items(ITEMS, tmp_path)
    first = [next(one)]
    second = [next(two) for _ in range(3 * (MODULES - 1))]  # all modules but the first
    second.append(next(two))
    first.append(next(one))
    assert names([second[-1], first[-1]]) == ["0-2", "0-1"]
    assert not [*one, *two]
    assert sorted(names(first + second)) == sorted(names(ITEMS))


def test_one_process_alone_runs_everything_in_order(tmp_path: Path) -> None:
    assert list(claimed_items(ITEMS, tmp_path)) == ITEMS


def test_what_failed_is_read_from_a_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.chat.test_a" name="test_good"/>'
        '<testcase classname="tests.chat.test_a" name="test_bad[x-1]"><failure/></testcase>'
        '<testcase classname="tests.chat.test_a" name="test_bad[x-1]"><error/></testcase>'
        '<testcase classname="tests.daemon.test_b" name="test_worse"><error/></testcase>'
        '<testcase classname="tests.daemon.test_b" name="test_left_out"><skipped/></testcase>'
        "</testsuite></testsuites>",
        encoding="utf-8",
    )
    assert failed_tests(report) == [
        "tests/chat/test_a.py::test_bad[x-1]",
        "tests/daemon/test_b.py::test_worse",
    ]
