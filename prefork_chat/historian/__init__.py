"""The historian: the one process that writes the history.

Owns: history.db, while it is open; what is under way to accounts that were away.
May touch: its pair, the inlets of the workers' pairs; to read, the registry and accounts.db.
Must not: serve clients, take the registry's lock, decide what a line means.
Runs where: an attendant of the supervisor, single-threaded.
Read next: `historian` (life and turn), then `batch` (what comes of what loops say).
"""
