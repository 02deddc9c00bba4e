"""The protocol: how bytes become lines, and answers become bytes.

Owns:      framing, cleaning, the rules for names and tags, the form and wording of what the
           server says, and the layout of the datagrams between processes.
May touch: its arguments; its state is bytes and integers that can be copied at any moment.
Must not:  read a socket, a clock or the configuration, write a log, know sessions.
Runs in:   the loops of a worker, and every program that speaks to the daemon.
Read next: `decoder` (bytes in), `replies` (lines out), then `prefork_chat.chat` (their meaning).
"""
