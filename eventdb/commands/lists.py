"""Commands: lists."""
