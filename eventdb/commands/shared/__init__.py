"""shared: what several command modules need. The only siblings that a command module imports."""
