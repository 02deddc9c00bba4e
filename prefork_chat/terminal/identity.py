"""Who one is: the name and the password of a command, from where they may stand.

A password is never taken from the arguments, which everybody on the machine can read.
"""

from __future__ import annotations

import os
import pwd
import re
from typing import TYPE_CHECKING, Final

from prefork_chat.client.places import is_person
from prefork_chat.errors import UsageError
from prefork_chat.protocol.names import MAX_NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSWORD_VARIABLE: Final = "PREFORK_CHAT_PASSWORD"


def choose_name(given: str | None) -> str:
    """Return the name to JOIN with: the given one, else the login name. Raises UsageError."""
    if given is not None:
        if not is_person(given):
            raise UsageError(
                f"--name: {given!r} is no name: use 1-{MAX_NAME_BYTES} of A-Z a-z 0-9 _ . - "
                "and begin with a letter or digit"
            )
        return given
    try:
        login = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        login = ""
    name = re.sub(r"[^A-Za-z0-9_.-]", "", login).lstrip("_.-")[:MAX_NAME_BYTES]
    return name or f"guest{os.getpid()}"


def read_password(path: str | None, environ: Mapping[str, str]) -> str:
    """Return the first line of the file, else the variable's value, else "". Raises UsageError."""
    if path is None:
        return environ.get(PASSWORD_VARIABLE, "")
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"--password-file: {path}: {reason}") from error
