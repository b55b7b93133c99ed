"""Commands: scan."""
