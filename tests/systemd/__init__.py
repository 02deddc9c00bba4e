"""Tests of the units in `systemd/` under a systemd that is PID 1.

They install the daemon as `systemd/README.md` says and remove it again, so they run only where that
is wanted: as root, with PREFORK_CHAT_WHEELS naming a directory that has the wheels of the package
and of what it needs. Otherwise each one is skipped and says what is missing.
"""
