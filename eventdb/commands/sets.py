"""Commands: sets."""
