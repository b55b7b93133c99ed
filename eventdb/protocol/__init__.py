"""protocol: bytes to commands, and replies to bytes. It knows no database.

`requests.py` parses what clients send, `replies.py` encodes what they get; `glob.py` matches patterns and
`longdouble.py` prints floats as Redis does.
"""
