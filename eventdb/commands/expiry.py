"""Commands: expiry."""
