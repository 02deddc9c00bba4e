"""How the daemon is, seen from outside of what it does: for people, and for other programs.

Owns: what is worth knowing of workers, loops, pairs and processes (`snapshot`), what it comes to in
a while (`report`), and how it is written: for Prometheus (`exposition`), for a terminal (`screen`).
May touch: the registry, by views that it only reads; /proc; descriptors of pairs, to ask how full
they are. Must not: write anything, wait for anybody, know of chat.
Runs where: in commands (`top`, `metrics`), and in a process of the daemon that is no worker.
Read next: snapshot.py.
"""
