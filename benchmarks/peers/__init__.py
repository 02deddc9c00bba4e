"""The servers that the daemon is compared with: the table of them, and how each is started.

Owns: the generated configurations of ngIRCd and InspIRCd, their packages in the cache folder, and
three servers of our own that do the same work in the obvious way: `streams_server.py`,
`uvloop_server.py` (both run as programs, nobody imports them) and `router.c`.
May touch: temporary folders, the cache folder, child processes. Must not: start a service of the
machine, or install anything outside the checkout. Runs in: the benchmark's only thread.
Read next: `contestants.py`.
"""
