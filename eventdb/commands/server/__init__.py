"""server: commands on the server itself: INFO, CONFIG, COMMAND, DEBUG and their kin."""
