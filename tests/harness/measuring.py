"""Programs that coverage does not measure, because nothing would come of it but slowness.

A process that is killed writes nothing down, and what the others of a daemon run when hundreds are
killed, they run in other tests as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

UNMEASURED: Final[Mapping[str, str]] = {"COVERAGE_PROCESS_CONFIG": ""}
"""What their environment says besides ours. By this variable coverage tells that it is wanted."""
