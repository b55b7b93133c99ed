"""Commands: transactions."""
