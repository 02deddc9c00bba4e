"""The registry: every joined name and where its session lives, in shared memory, for all processes.

Owns the shared memory's layout (`layout`), the slots and their rules (`registry`), the name index
(`index`), the worker table with heartbeats and counters (`table`), and the typed wrappers of the
IPC modules (`ipc`). May touch: the shared memory, and the write semaphore while it holds it. Only
`ipc` imports posix_ipc and sysv_ipc. Must not: open sockets, log, read a clock, know what a chat
command is, or remember a pid or thread between two calls. Runs in every process. Readers take no
lock; writers hold the write semaphore; the supervisor takes no lock at all. Imports nothing of the
package but `errors`. Read next: `layout`, then the docstring of `registry`.
"""
