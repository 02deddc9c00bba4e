"""How passwords are kept: as Argon2id hashes, which take a while to make and to check.

Decides the parameters: 2 passes over 19 MiB in one lane, the least that OWASP's Password Storage
Cheat Sheet (2024) recommends; 23 ms, in which the GIL is free (2026-11). More would let fewer
people log in at once on a small machine. Each hash says its own parameters, so these may be changed
at any time. Runs in one thread: two at a time would take twice the memory.
"""

from __future__ import annotations

import os
import unicodedata
from typing import Final

import argon2

_PASSES: Final = 2
_MEMORY_KIB: Final = 19 * 1024
_LANES: Final = 1
_DECOY_BYTES: Final = 16


class Passwords:
    """Makes and checks hashes of passwords; a password is UTF-8. Owner: one thread."""

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(_PASSES, _MEMORY_KIB, _LANES)
        self._decoy = self._hasher.hash(os.urandom(_DECOY_BYTES))

    def protect(self, password: bytes) -> str:
        """Return a hash by which `password` can be known again and not be found out."""
        return self._hasher.hash(_normal(password))

    def matches(self, protected: str | None, password: bytes) -> bool:
        """Say whether the hash is of this password.

        None: there is no password; that takes as long as any other no. Raises ValueError when the
        hash is none.
        """
        try:
            self._hasher.verify(protected or self._decoy, _normal(password))
        except argon2.exceptions.VerifyMismatchError:
            return False
        return protected is not None


def _normal(password: bytes) -> bytes:
    """Let the same letters be the same bytes, whichever keyboard they come from (RFC 8265)."""
    return unicodedata.normalize("NFC", password.decode()).encode()
