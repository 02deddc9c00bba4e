"""Chaos: daemons under load whose processes are killed, and an account that must come out exact.

    python -m tests.chaos storm --seconds 60                      every storm; or some, by name
    python -m tests.chaos crash-points                            a kill at each system call
    python -m tests.chaos crash-points --trap lines --most 2      at each line, the first two times
    python -m tests.chaos crash-points --trap adoption --most 2   of the successor, adopting, too

`make test` runs a short version of each. `account` is the judge, and pure; `crowd` are the clients;
`storms` says who is hurt and when; `crash_points` goes with a small `scene` through all points
where one of the `traps` can kill. All runs print figures and what was wrong, and exit 1 if anything
was. `--seed` repeats the choices of a run, not its timing. Needs strace(1) for system calls.
"""
