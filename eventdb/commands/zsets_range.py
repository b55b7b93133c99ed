"""Commands: zsets_range."""
