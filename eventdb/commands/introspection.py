"""Commands: introspection."""
