"""The channels: six ways in which one program of a machine hands messages to another one.

Owns the interface (`channel`), a module for each mechanism, the table of them (`mechanisms`), the
ledger of what is served (`ledger`) and the typed wrappers of IPC (`posix`, `sysv`). May make FIFOs,
sockets, queues, shared memory and semaphores, and files in the ledger's directory; must not fork,
log, print or know chat. Only the wrappers, and `refusals`, import posix_ipc and sysv_ipc.
Runs in the command's processes; a blocking call of the System V mechanisms in the main thread only.
Imports only `errors` of the package. Read next: `channel`, then `mechanisms`.
"""
