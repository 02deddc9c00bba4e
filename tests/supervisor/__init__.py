"""Tests of prefork_chat.supervisor: the pure decisions alone, everything else with real processes.

`program` is a real supervisor in a process of its own, with one of the small workers of `workers`;
`daemon` starts it, reads its log, sends signals, and looks at the end whether anything was left.
"""
