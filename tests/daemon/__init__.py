"""Tests of the whole daemon, as real processes: what clients see, also when processes die."""
