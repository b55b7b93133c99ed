"""Commands of scripts (group scripting)."""
