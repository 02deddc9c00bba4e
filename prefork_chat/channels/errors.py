"""What can go wrong with a channel, as a person is told it, and the command's exit code for each.

Raised by all of `channels`; `cli.main` prints the message and exits with the code. 2 and 3 mean
what they mean for the daemon: a mistake in the arguments, and somebody has that place already.
"""

from __future__ import annotations

from typing import ClassVar

from prefork_chat.errors import PreforkChatError


class ChannelError(PreforkChatError):
    """A channel cannot be opened or used; the message names it."""


class KeyMissing(ChannelError):  # noqa: N818 - says what is the case
    """The file that the key is derived from does not exist."""

    exit_code: ClassVar[int] = 2


class MessageTooLong(ChannelError):  # noqa: N818 - says what is the case
    """The message is longer than `MAX_MESSAGE_BYTES`; nothing of it was sent."""

    exit_code: ClassVar[int] = 2


class ChannelTaken(ChannelError):  # noqa: N818 - says what is the case
    """A living process serves, or reads, this channel already."""

    exit_code: ClassVar[int] = 3


class NoServer(ChannelError):  # noqa: N818 - says what is the case
    """Nobody serves this channel."""

    exit_code: ClassVar[int] = 4


class StaleObject(ChannelError):  # noqa: N818 - says what is the case
    """There is an object, but its server is dead."""

    exit_code: ClassVar[int] = 5


class NotPermitted(ChannelError):  # noqa: N818 - says what is the case
    """The system refuses this user."""

    exit_code: ClassVar[int] = 6


class PeerGone(ChannelError):  # noqa: N818 - says what is the case
    """The other side ended in the middle: killed, or closed before the end of the stream."""

    exit_code: ClassVar[int] = 7


class ChannelTimeout(ChannelError):  # noqa: N818 - says what is the case
    """The time given is over; nothing of this call's message was sent or lost."""

    exit_code: ClassVar[int] = 8


class ObjectTaken(ChannelError):  # noqa: N818 - says what is the case
    """The name or key belongs to an object that is not ours."""


class ObjectRemoved(ChannelError):  # noqa: N818 - says what is the case
    """The object went away while it was in use."""
