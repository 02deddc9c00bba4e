"""Channels: what every mechanism promises, what each does in its own way, and the commands."""
