"""The client in a terminal, a pipe or a script: sockets, the clock, keys and screens.

Owns:      one connection at a time, and how a `client.Conversation` is shown.
May touch: sockets, standard input and output, the terminal, prompt_toolkit (`fullscreen`, `plain`
           and what only they use: it is an extra, and slow to load).
Must not:  decide what a line means or what becomes of a message: `client` does.
Runs in:   the main thread of `prefork-chat chat`, `send`, `listen`. Never in the daemon.
Read next: `carrier` (bytes to and fro), then `fullscreen`.
"""
