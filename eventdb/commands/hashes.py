"""Commands: hashes."""
