"""Benchmarks: what the daemon does in a second, how long a message takes, what a client costs.

Owns:      the load generator (C, `loadgen/`), the scenarios, how a daemon is started for them.
May touch: the daemon as its users do: its command, its sockets, its log, /proc.
Must not:  import the daemon's inside, or be imported by it.
Runs as:   `python -m benchmarks`, one thread; the generator and the daemon are its children.
Read next: README.md for the method, then `rounds`, `scenarios`; `loadgen/main.c`.
"""
