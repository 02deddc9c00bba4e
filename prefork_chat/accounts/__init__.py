"""Accounts: whose a name is, and how somebody shows that it is his.

Owns accounts.db, the one file of it in the state directory, and the hashing of passwords. May touch
that file and the machine's list of users; must not know workers, connections or the wording of
answers. Runs in one thread of each worker (everything here may block, and hashing takes 25 ms), and
before the first fork in the supervisor's process, which is given a function for it.
Read next: `accounts` for what is decided, `store` for what is kept.
"""
