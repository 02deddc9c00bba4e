"""Chat: what a line means to the person who sent it, and what he is answered.

Owns:      the session, the table of commands, the effects they ask for, the words of each outcome.
May touch: the session that it is given, nothing else.
Must not:  know sockets, registry, threads, clocks or logs: the worker carries the effects out.
Runs in:   the loops of a worker; each session belongs to one loop.
Read next: `commands` (line in, effect out), then `outcomes`, `rooms` (the answer, when it is done).
"""
