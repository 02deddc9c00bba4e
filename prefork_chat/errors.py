"""The errors that an operator is told about, and the exit code that each one gives the command.

Raised anywhere below `prefork_chat.cli`, caught in one place: `cli.main` prints `prefork-chat:
<message>` to stderr, without a traceback, and exits with the error's code. So the message is
written for a person: it names the file, key, address or pid in question, and, where there is one,
the way out. A bug of ours is not one of these: it keeps its traceback.

Exit codes: 0 ended in order; 1 the daemon could not start or go on; 2 wrong usage or configuration
(as argparse); 3 another daemon runs in the same runtime directory, or, of `ctl`, `send` and
`listen`, none does.
"""

from __future__ import annotations

from typing import ClassVar


class PreforkChatError(Exception):
    """An error to be told to the operator in one line; `exit_code` is the command's."""

    exit_code: ClassVar[int] = 1


class ConfigError(PreforkChatError):
    """The configuration is wrong; the message names its source and the key's path."""

    exit_code: ClassVar[int] = 2


class AlreadyRunning(PreforkChatError):  # noqa: N818 - says what is the case
    """Another daemon holds the runtime directory; the message names the directory and its pid."""

    exit_code: ClassVar[int] = 3


class NotRunning(PreforkChatError):  # noqa: N818 - says what is the case
    """No daemon runs in the runtime directory; the message names the directory."""

    exit_code: ClassVar[int] = 3


class OperationError(PreforkChatError):
    """A running daemon has refused what it was asked for, or failed; the message is its own."""


class UpgradeError(PreforkChatError):
    """This program cannot take over from the running one; the message says what is in the way."""


class ListenError(PreforkChatError):
    """An address cannot be listened on; the message names the address."""


class StartError(PreforkChatError):
    """What the daemon needs before it forks (memory, a semaphore, a directory) is not to be had."""


class LeftoverError(PreforkChatError):
    """What a killed daemon left cannot be removed; the message names the object."""


class UsageError(PreforkChatError):
    """The command line, or a file that it names, is wrong."""

    exit_code: ClassVar[int] = 2


class NoServer(PreforkChatError):  # noqa: N818 - says what is the case
    """Nobody listens at the address, or whoever does speaks something else."""

    exit_code: ClassVar[int] = 3


class SendError(PreforkChatError):
    """A message was not delivered, or we were not let in; the message is the server's."""
