"""The registry: every session, its name and where it lives, in memory shared by all processes.

Owns that memory's layout (`layout`), the words of the slots (`slots`), the name index (`index`),
who may change them and when (`registry`), the workers' heartbeats, counters and orders (`table`),
and the typed wrappers of IPC (`ipc`).
May touch the shared memory, as a writer only with the write semaphore; nothing else. Only `ipc`
imports posix_ipc and sysv_ipc. Must not open sockets, log, read a clock, or know chat commands.
Runs in every process: readers take no lock, writers the semaphore, the supervisor nothing.
Imports only `errors` of the package. Read next: `layout`, `slots`, `registry`.
"""
