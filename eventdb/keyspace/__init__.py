"""keyspace: the state that a log replays into, and the only functions that change it.

`databases.py` holds keys and deadlines, `types/` one file for each data type with the function for each of its event
kinds, `events.py` the table of all kinds, `kinds.py` fills that table without loading a command.
"""
