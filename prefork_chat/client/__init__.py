"""The client's side of a conversation, without a socket, a clock or a terminal.

Owns:      what a typed line means, what the server's lines mean, the state of each message, what
           happens when the connection comes back, who has been talking where.
May touch: what it is given: bytes, text, the time. `protocol` for names and clean text.
Must not:  connect, wait, print, or know how anything looks: `terminal` does.
Runs in:   the one thread of a client: `prefork-chat chat`, `send`, `listen`. Never in the daemon.
Read next: `conversation` (everything meets there), then `mailbag` (what becomes of a message).
"""
