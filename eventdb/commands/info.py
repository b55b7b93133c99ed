"""Commands: info."""
