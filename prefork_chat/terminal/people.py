"""What all screens for people have in common: how a conversation begins."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from prefork_chat.client.conversation import Conversation
from prefork_chat.terminal.carrier import Carrier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.addresses import Address


def begin(address: Address, name: str, password: str, rooms: Sequence[str]) -> Carrier:
    """Return a conversation of a person; it will connect when it is carried."""
    conversation = Conversation(
        name,
        password=password,
        rooms=rooms,
        chance=random.random,
        epoch=time.time() - time.monotonic(),
    )
    return Carrier(conversation, address)
