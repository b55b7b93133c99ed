"""Scripts: Lua 5.1 in a sandbox, on the same command handlers as every client.

lua.py        the interpreter, scripts and what they call
replies.py    RESP replies as Lua values
libraries.py  bit and struct; cjson.lua, cmsgpack.lua: the others; sandbox.lua: what a script sees

A script runs inside one command, so what it changes is one transaction of the log. It is not in the log itself: its
events are, which depend on neither clock nor chance.
"""
