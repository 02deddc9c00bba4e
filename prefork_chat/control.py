"""All that `prefork-chat ctl` may ask a running daemon, and all that it may be answered.

Spoken over the admin socket, a Unix stream socket in the runtime directory: the command sends one
request, the supervisor any number of `Worker`, `Client` or others, and one `Done` or `Failed` at
the end. Each is one line of JSON, told by its `kind`. An operation that takes its time is answered
when it is over; one that ends the daemon is answered by the end of the connection.

A console's `Visit` is answered by `Seated`, and its connection stays: where it ends, so does the
visit.

Descriptors are handed over by SCM_RIGHTS (unix(7)) with the bytes of `Handed` lines or before them,
in the order of the names that all those lines have.

The socket is reached through the directory's descriptor, for a socket's own path may have 107 bytes
only (unix(7)).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from msgspec import Struct

from prefork_chat.bulletin import Topic  # noqa: TC001 - msgspec reads it
from prefork_chat.errors import NotRunning, OperationError

if TYPE_CHECKING:
    from pathlib import Path


SOCKET_NAME: Final = "admin"
REQUEST_BYTES: Final = 4096
"""The longest request with its line end; more than any needs."""


class Workers(Struct, frozen=True, tag="workers", tag_field="kind"):
    """List all workers."""


class Clients(Struct, frozen=True, tag="clients", tag_field="kind"):
    """List all clients."""


class Recycle(Struct, frozen=True, tag="recycle", tag_field="kind"):
    """Replace one worker."""

    p_id: int


class Reload(Struct, frozen=True, tag="reload", tag_field="kind"):
    """Load the configuration and replace all workers."""


class Upgrade(Struct, frozen=True, tag="upgrade", tag_field="kind"):
    """Become the program that is installed now, and replace all workers."""


class Drain(Struct, frozen=True, tag="drain", tag_field="kind"):
    """Accept nobody more, and stop when all have left."""


class Stop(Struct, frozen=True, tag="stop", tag_field="kind"):
    """Stop in order; a second one: at once."""


class Attach(Struct, frozen=True, tag="attach", tag_field="kind"):
    """Hand over descriptors of these parts of the daemon, each one or several (see `Handed`)."""

    parts: tuple[str, ...]


class Post(Struct, frozen=True, tag="post", tag_field="kind"):
    """Keep a text for everybody (see `bulletin`) and show it on the board."""

    topic: Topic
    text: str


class Visit(Struct, frozen=True, tag="visit", tag_field="kind"):
    """Give a console a place for as long as this connection lasts; `wants_events`: to look on."""

    wants_events: bool


Request: TypeAlias = (
    Workers | Clients | Recycle | Reload | Upgrade | Drain | Stop | Attach | Post | Visit
)


class Worker(Struct, frozen=True, tag="worker", tag_field="kind"):
    """One worker. Counts are since its start, `up_seconds` is 0 if it has no process."""

    p_id: int
    generation: int
    pid: int
    state: str
    clients: int
    accepted: int
    lines: int
    delivered: int
    refused: int
    crashes: int
    up_seconds: float


class Client(Struct, frozen=True, tag="client", tag_field="kind"):
    """One connection; `name` is empty before JOIN, `address` if its socket is not kept."""

    slot: int
    generation: int
    p_id: int
    t_id: int
    name: str
    address: str


class Attached(Struct, frozen=True, tag="attached", tag_field="kind"):
    """Whose descriptors are about to be handed over; `pid` is the supervisor's.

    `attendants` are the names of its children that are no workers, in the order of their table.
    """

    version: str
    pid: int
    runtime_dir: str
    listen: tuple[str, ...]
    attendants: tuple[str, ...] = ()


class Handed(Struct, frozen=True, tag="handed", tag_field="kind"):
    """As many descriptors, by their names."""

    names: tuple[str, ...]


class Seated(Struct, frozen=True, tag="seated", tag_field="kind"):
    """A console has its place: the pair of that number is its own, the visit its mark on it.

    `state_dir` is the daemon's directory of what outlives it; `shows_text`: messages are shown with
    what they say.
    """

    place: int
    visit: int
    state_dir: str
    shows_text: bool


class Done(Struct, frozen=True, tag="done", tag_field="kind"):
    """It is done; `text` says what."""

    text: str


class Failed(Struct, frozen=True, tag="failed", tag_field="kind"):
    """It is not done, and `text` says why."""

    text: str


Answer: TypeAlias = Worker | Client | Attached | Handed | Seated | Done | Failed

_encoder: Final = msgspec.json.Encoder()
_request_decoder: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_answer_decoder: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Answer)


def socket_path(directory_fd: int, name: str = SOCKET_NAME) -> str:
    """Return a path, good in this process only, of a socket in an open directory."""
    return f"/proc/self/fd/{directory_fd}/{name}"


def encode(message: Request | Answer) -> bytes:
    """Return the message as a line."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read a line that a command sent; raises ValueError."""
    return _request_decoder.decode(line)


def decode_answer(line: bytes) -> Answer:
    """Read a line that the supervisor sent; raises ValueError."""
    return _answer_decoder.decode(line)


def connect(directory: Path) -> socket.socket:
    """Connect to the daemon in `directory`; raises NotRunning or OperationError."""
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotRunning(_not_running(directory)) from error
    except OSError as error:
        raise OperationError(f"{directory}: {error.strerror}") from error
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        daemon.connect(socket_path(fd))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        daemon.close()
        raise NotRunning(_not_running(directory)) from error
    except OSError as error:
        daemon.close()
        raise OperationError(f"{directory}: {error.strerror}") from error
    finally:
        os.close(fd)
    return daemon


def _not_running(directory: Path) -> str:
    return f"no daemon runs in {directory}: --runtime-dir or --config says where yours does"
