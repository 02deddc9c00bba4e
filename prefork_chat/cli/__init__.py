"""The command `prefork-chat`: reads arguments and configuration, and starts what was asked for.

Owns argument parsing, what is printed for a person, and exit codes. `main` dispatches, one module
serves each subcommand, `options` turns the description of the configuration into flags, help and
the example file. This is the one layer that sees all others: `serve` hands the worker's code to the
supervisor, which does not import it. Runs in the main thread, before anything is forked.
Must not decide anything that a client could see.
Read next: `main.py`, then `serve.py`.
"""
