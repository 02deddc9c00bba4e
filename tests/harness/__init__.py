"""Real daemons under test: start one, talk to it, hurt it, and see what it leaves behind.

`program` runs any program, with its processes and its log; `daemon` starts and ends the daemon and
checks at the end that nothing of it is left; `client` is a netcat with deadlines; `events` reads
its log; `processes`, `sockets` and `ipc` look at it from outside, through /proc; `waiting` has the
deadlines. Everything waits for an event or polls for a condition with a deadline: a test never
sleeps and hopes. Nothing here knows pytest: fixtures are in `tests/conftest.py`.
"""
