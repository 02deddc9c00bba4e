"""Tests of prefork_chat.accounts, with real files and real hashes."""
