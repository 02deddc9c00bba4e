"""Who a connection is: the name that it joined under and the extras that it asked for.

A session is plain values, so that it can outlive the process that serves it. It is owned by the
loop that owns its connection; only that loop's thread reads or changes it.
"""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Session:
    """One client, from its greeting to its LEAV.

    name: as first typed and as others see it; empty until the client has joined.
    key: the folded name, under which the registry knows it; empty until then.
    quiet: the client does not want `OK CHAT`; errors still come.
    registered: it has shown that the account of its name is its own.
    presence: it wants to be told who comes to its rooms and who goes.
    muted: the operator has taken its voice away.
    reader: key of the account whose history it may read without having joined; empty: none.
    """

    name: bytes = b""
    key: bytes = b""
    quiet: bool = False
    registered: bool = False
    presence: bool = False
    muted: bool = False
    reader: bytes = b""
