"""The supervisor: the parent of all processes, single-threaded for ever because it forks.

Owns the runtime directory with its lock, every object that is made before the first fork
(registry, semaphores, socketpairs, journals, listeners), a duplicate of every client's socket, and
the processes. May touch signals, children and descriptors. Must not know chat, take a registry
lock, start a thread, or wait for anything but its one poll. Workers get what they need by fork, as
an `Inheritance`, and are a callable here. Runs in the process that was started, and goes on in it
as another version (`upgrading`). Read next: `supervisor.py` (the loop), `operations.py` (what an
operator may ask), `children.py` (who is to be forked when), `keeper.py` (what outlives a worker),
`runtime.py` and `ledger.py` (what survives a kill -9).
"""
