"""`prefork-chat ipc serve` and `ipc read`: a file, or standard input, from one to the other.

Each runs in its own process, in the main thread. Whatever is said goes to stderr; stdout is the
data's. After a signal (`ipc_signals`) the other side is told by the channel's closing.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from prefork_chat.channels import mechanisms, names, pipe
from prefork_chat.channels.channel import MAX_MESSAGE_BYTES, TICK_SECONDS
from prefork_chat.channels.errors import ChannelError, PeerGone
from prefork_chat.cli.ipc_progress import Progress
from prefork_chat.cli.ipc_signals import Stopped, stoppable
from prefork_chat.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from prefork_chat.channels.channel import Receiver, Sender

_STDIN: Final = 0
_STDOUT: Final = 1
_SIGPIPE_EXIT_CODE: Final = 128 + signal.SIGPIPE


def serve(arguments: argparse.Namespace) -> int:
    """Send the file to the reader; return the exit code. Raises ChannelError, ConfigError."""
    try:
        with (
            stoppable(),
            _open_input(arguments.file) as (fd, size_bytes),
            _open_sender(arguments) as sender,
            Progress("sent", size_bytes, quiet=arguments.quiet) as progress,
        ):
            if arguments.key is not None:
                progress.say(
                    "waiting for a reader: "
                    f"prefork-chat ipc read --via {arguments.via} --key {arguments.key}"
                )
            sender.wait_for_client(arguments.wait)
            progress.start(shows_rate=arguments.key is not None)
            for block in _blocks(fd, sender):
                sender.send(block)
                progress.add(len(block))
            sender.finish()
            progress.end()
    except Stopped as stopped:
        return stopped.exit_code
    return 0


def read(arguments: argparse.Namespace) -> int:
    """Write to stdout what is served; return the exit code. Raises ChannelError, ConfigError."""
    try:
        quiet = arguments.quiet or os.isatty(_STDOUT)
        with (
            stoppable(),
            _open_receiver(arguments) as receiver,
            Progress("received", None, quiet=quiet) as progress,
        ):
            progress.start(shows_rate=True)
            while (message := receiver.receive()) is not None:
                _write(message)
                progress.add(len(message))
            progress.end()
    except Stopped as stopped:
        return stopped.exit_code
    except BrokenPipeError:
        return _SIGPIPE_EXIT_CODE  # as `ipc read | head` would end if it were written in C
    return 0


@contextmanager
def _open_input(name: str) -> Iterator[tuple[int, int | None]]:
    """Open the file, or take stdin for "-"; with its size if it has one."""
    try:
        fd = os.dup(_STDIN) if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ChannelError(f"cannot read {name}: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        yield fd, status.st_size or None
    finally:
        os.close(fd)


def _blocks(fd: int, sender: Sender) -> Iterator[bytes]:
    """Read to the end, looking around for the reader while there is nothing to read."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    can_wait = not stat.S_ISREG(os.fstat(fd).st_mode)
    while True:
        if can_wait and not poll.poll(TICK_SECONDS * 1000):
            if not sender.is_peer_alive():
                raise PeerGone("the reader has gone")
            continue
        try:
            block = os.read(fd, MAX_MESSAGE_BYTES)
        except BlockingIOError:
            continue
        except OSError as error:
            raise ChannelError(f"cannot read the input: {error.strerror}") from error
        if not block:
            return
        yield block


def _write(message: bytes) -> None:
    """Write all of it to stdout, which may be non-blocking. Raises BrokenPipeError."""
    rest = memoryview(message)
    while rest:
        try:
            rest = rest[os.write(_STDOUT, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(_STDOUT, select.POLLOUT)
            poll.poll()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ChannelError(f"cannot write to standard output: {error.strerror}") from error


def _open_sender(arguments: argparse.Namespace) -> Sender:
    if arguments.key is not None:
        return mechanisms.serve(arguments.via, arguments.key, arguments.ledger)
    _check_pipe(arguments.via, _STDOUT, "standard output")
    return pipe.sender_of(_STDOUT)


def _open_receiver(arguments: argparse.Namespace) -> Receiver:
    if arguments.key is not None:
        return mechanisms.connect(
            arguments.via, arguments.key, arguments.ledger, wait_seconds=arguments.wait
        )
    _check_pipe(arguments.via, _STDIN, "standard input")
    return pipe.receiver_of(_STDIN)


def _check_pipe(via: str, fd: int, name: str) -> None:
    if via != names.PIPE:
        raise ConfigError(f"--via {via} needs --key PATH, an existing file that both sides name")
    if not pipe.is_pipe(fd):
        print(
            "without --key, the shell makes the pipe:\n"
            "  prefork-chat ipc serve --via pipe FILE | prefork-chat ipc read --via pipe",
            file=sys.stderr,
        )
        raise ConfigError(f"{name} is no pipe, and there is no --key PATH")
