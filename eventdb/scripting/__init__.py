"""Scripts: Lua 5.1 in a sandbox, on the same command handlers as every client.

lua.py        the interpreter, scripts and functions, and what they call
functions.py  libraries of functions: the state keeps their sources, here they are compiled
headers.py    `#!lua …`: the first line of a script or a library, and flags
watch.py      what happens on a clock while a script runs: its limit, -BUSY for others, progress for the lease
replies.py    RESP replies as Lua values
libraries.py  bit and struct; cjson.lua, cmsgpack.lua: the others; sandbox.lua: what a script sees

A script runs inside one command, so what it changes is one transaction of the log. It is not in the log itself: its
events are, which depend on neither clock nor chance. Libraries of functions are, as they are a part of the state.
"""
