"""The protocol's tests: every rule of framing, cleaning and naming, and random streams."""
