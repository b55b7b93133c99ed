"""Commands: zsets."""
