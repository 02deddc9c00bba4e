"""The worker: a forked process that serves clients.

Owns:      client sockets and their connections, the loops, the router, the acceptor.
May touch: the registry, its own row of the worker table, the socketpairs, listeners that it
inherited. Must not:  fork, reap, create or remove IPC objects, decide what a command means (that
is chat). Runs in:   main thread (router), T loop threads, one acceptor thread.
Read next: `loop` (the hot path), then `clients`, `routes`, `desk`, `departures`; `worker` for
start and end.
"""
