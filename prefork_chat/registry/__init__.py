"""The registry: every joined name and where its session lives, in memory shared by all processes.

Owns that memory's layout (`layout`), the slots and their rules (`registry`), the name index
(`index`), the workers' heartbeats and counters (`table`), and the typed wrappers of IPC (`ipc`).
May touch the shared memory, as a writer only with the write semaphore; nothing else. Only `ipc`
imports posix_ipc and sysv_ipc. Must not open sockets, log, read a clock, or know chat commands.
Runs in every process: readers take no lock, writers the semaphore, the supervisor nothing.
Imports only `errors` of the package. Read next: `layout`, then the docstring of `registry`.
"""
