"""Commands: lists_blocking."""
