"""Commands: connection."""
