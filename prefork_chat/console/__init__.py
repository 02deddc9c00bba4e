"""The operator's console: a program of its own that looks on, and speaks to everybody.

Owns:      what the operator types and sees: commands, the live view, the line that he is editing.
May touch: the file of bans; descriptors that the supervisor hands to it: one console place's pair,
           the inlets of the workers, the registry to be read.
Must not:  be waited for by the daemon, or be imported by it.
Runs in:   the command `prefork-chat console`, one thread.
Read next: `console` (the loop), then `commands` (what can be typed).
"""
