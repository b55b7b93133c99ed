"""keys: commands on keys of any type, and on whole databases."""
