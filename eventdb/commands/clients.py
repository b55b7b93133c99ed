"""Commands: clients."""
