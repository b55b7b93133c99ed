"""Commands: zsets_blocking."""
