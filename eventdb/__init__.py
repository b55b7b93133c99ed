"""eventdb: what Redis means, on a log.

client.py and engine.py run commands against keyspace.py; registry.py holds the facts of each command in commands/;
values/ are the data types with the functions that events apply; commit.py is the way to the log.
"""
