"""types: the data types, and for each the functions that change it, one per event kind.

No RESP, no client, no clock here: a value is changed only by an event, and the same function runs when the
primary emits the event and when a replica replays it. A string is plain `bytes` (or `bytearray` once it was
changed in place); every other type derives from `Value`.
"""
