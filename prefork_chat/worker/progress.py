"""The word of a session: all that a successor must know besides its name, in one aligned word.

It is part of the turn's record and stored in the slot when the turn is carried out, so it is never
ahead of what the client has seen. Owner: the loop that owns the session; others only look.

    bits 0-24    the decoder's state (`Decoder.state`)
    bits 25-30   flags, as below
    bit 31       RELEASED
    bits 32-55   CHATs that have no answer yet
    bits 56-59   more flags
"""

from __future__ import annotations

from typing import Final

QUIET: Final = 1 << 25
"""It wants no receipts (HELO quiet)."""
GREETED: Final = 1 << 26
"""It has been sent the greeting."""
JOINED: Final = 1 << 27
"""Its JOIN has been answered. A name without this flag was claimed by a turn that did not count."""
LEAVING: Final = 1 << 28
"""It has been sent its last words; what is left to do is to close it."""
LOCAL: Final = 1 << 29
"""A Unix socket: the kernel keeps no counters for it."""
TORN: Final = 1 << 30
"""Part of a line has been written to it, and the rest is in its worker's memory only."""

RELEASED: Final = 1 << 31
"""Its loop has let go of it, on its way out: whoever takes it over (`Registry.take_over`) has it.
Says where a session is, not what it is, and so is no part of a connection's flags."""

REGISTERED: Final = 1 << 56
"""It has shown that the account of its name is its own."""
PRESENCE: Final = 1 << 57
"""It wants to be told who comes and goes (HELO pres)."""
MUTED: Final = 1 << 58
"""The operator has taken its voice away."""
IN_ROOMS: Final = 1 << 59
"""The memberships of its slot mean something."""

FLAGS: Final = (
    QUIET | GREETED | JOINED | LEAVING | LOCAL | TORN | REGISTERED | PRESENCE | MUTED | IN_ROOMS
)
DECODER: Final = (1 << 25) - 1
OUTSTANDING_SHIFT: Final = 32
OUTSTANDING: Final = (1 << 24) - 1
