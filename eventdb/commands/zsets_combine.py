"""Commands: zsets_combine."""
