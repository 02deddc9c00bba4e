"""The board: what the daemon shows to every program of the machine, in System V shared memory.

Owns: the layout that C programs read (`board.h`, `layout`), and how it is read and written while
others read (`board`). May touch: the one segment, by way of `channels.sysv`. Must not: know where
the figures come from, wait for anybody, hold names or texts of chat.
Runs where: one process of the daemon writes; `prefork-chat board`, and whoever may, read.
Read next: board.h.
"""
