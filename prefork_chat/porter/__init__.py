"""The porter: the process of the daemon that other programs of the machine deal with.

Owns: what comes in through FIFOs and message queues (`ingress`, `sources`, `rules`) and the
connections by which it is said in the chat (`speaker`); what the board says (`tally`); the answers
to GET /metrics (`web`). May touch: the registry, to read it; the objects that the supervisor has
made for it. Must not: take the registry's semaphore, speak to loops but as their client, die of
what somebody writes.
Runs where: a child of the supervisor that is no worker, in one thread.
Read next: porter.py.
"""
