"""The tests of chat: what each line means, and how each outcome is worded."""
