"""Generic key commands."""
