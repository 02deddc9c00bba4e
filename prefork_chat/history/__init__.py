"""The history: one SQLite database of messages, and everything that knows its tables.

Owns: the schema, how rows come in (`archive`), go out (`reading`, `search`) and go for good
(`retention`).
May touch: the database file, and nothing else of the daemon.
Must not: know processes, sockets or sessions; read a clock; write from more than one process.
Runs where: `archive`, `search.Indexer` and `retention` in the historian alone; `reading` and
`search.find` wherever somebody reads, on read-only connections of their own.
Read next: `schema`, then `archive`.
"""
