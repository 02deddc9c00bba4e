"""Print which tests were skipped and why, from pytest's JUnit reports: a test run's last words.

`python tests/skipped.py REPORT...`. A test that one run skipped and another one ran is not listed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def skipped_tests(reports: list[str]) -> dict[str, str]:
    """Return the reason by test of all that were skipped in every report that knows them."""
    reasons: dict[str, str] = {}
    ran: set[str] = set()
    for report in reports:
        for case in ET.fromstring(report).iter("testcase"):
            name = f"{case.get('classname')}.{case.get('name')}"
            skipped = case.find("skipped")
            if skipped is None:
                ran.add(name)
            else:
                reasons[name] = skipped.get("message") or "no reason given"
    return {name: reason for name, reason in reasons.items() if name not in ran}


def main(paths: list[str]) -> int:
    """Print one line for each test, or that none was skipped."""
    skipped = skipped_tests([Path(path).read_text(encoding="utf-8") for path in paths])
    print(f"skipped: {len(skipped)}" if skipped else "skipped: nothing")
    for name, reason in sorted(skipped.items()):
        print(f"  {name}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
