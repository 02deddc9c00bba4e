"""Tests of prefork_chat.registry, with real processes, real kills and the kernel's own semaphores.

`processes` forks and waits, `audit` compares every part of a registry with its slots.
"""
