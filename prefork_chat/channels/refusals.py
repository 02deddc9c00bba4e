"""What posix_ipc and sysv_ipc raise when an object is made or opened, told as errors of ours.

Used by `posix` and `sysv`. Raises ObjectTaken, NoServer, NotPermitted, ChannelError.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import posix_ipc
import sysv_ipc

from prefork_chat.channels.errors import ChannelError, NoServer, NotPermitted, ObjectTaken

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def opening(what: str) -> Iterator[None]:
    """Tell what the modules raise when an object is made or opened, as ours."""
    try:
        yield
    except (posix_ipc.ExistentialError, sysv_ipc.ExistentialError) as error:
        # The one class for "is there" and "is not there": who asks for which knows.
        raise NoServer(f"no {what}") from error
    except (posix_ipc.PermissionsError, sysv_ipc.PermissionsError) as error:
        raise NotPermitted(f"{what}: no permission, it is another user's") from error
    except (OSError, ValueError, MemoryError, posix_ipc.Error, sysv_ipc.Error) as error:
        raise ChannelError(f"{what}: {error}") from error


@contextmanager
def making(what: str) -> Iterator[None]:
    """The same for an object that must not be there yet."""
    try:
        with opening(what):
            yield
    except NoServer as error:
        raise ObjectTaken(f"{what} exists already, and is not ours (see ipcs)") from error
