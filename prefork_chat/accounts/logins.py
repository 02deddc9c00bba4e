"""Who may log in to this machine: the users whom the kernel can vouch for, on a Unix socket.

Asks the machine's list of users (getpwnam(3)), which may be a file or a server on the network: it
can take long, so only a thread that may block asks. What was learnt of a user is kept, and any
thread may look at that.
"""

from __future__ import annotations

import pwd

NOBODY = b""


class Logins:
    """Login names of this machine, folded, as the chat's names are. Owner: one thread of a worker.

    `known` may be called by any.
    """

    def __init__(self) -> None:
        self._keys: dict[int, bytes] = {}

    def known(self, uid: int) -> bytes | None:
        """The user's name; NOBODY if it has none, None if that was not asked yet. Never waits."""
        return self._keys.get(uid)

    def learn(self, uid: int) -> bytes:
        """Ask for the user's name and keep it (the owner)."""
        key = self._keys.get(uid)
        if key is None:
            try:
                key = pwd.getpwuid(uid).pw_name.lower().encode()
            except KeyError:
                key = NOBODY
            self._keys[uid] = key
        return key

    @staticmethod
    def is_login(name: bytes) -> bool:
        """Say whether somebody has this login name, as it is written or in small letters."""
        for spelling in {name.decode(), name.decode().lower()}:
            try:
                pwd.getpwnam(spelling)
            except KeyError:
                continue
            return True
        return False
