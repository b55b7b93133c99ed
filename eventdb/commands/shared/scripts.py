"""What EVAL and FCALL have in common: the interpreter, the number of keys, how what runs is ended."""

from __future__ import annotations

from typing import Final

from eventdb.engine.busy import KILLED, NOT_BUSY, UNKILLABLE
from eventdb.engine.engine import Engine
from eventdb.engine.registry import find_numkeys
from eventdb.protocol.errors import NOT_INTEGER, NUMKEYS_TOO_LARGE, ReplyError
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import OK
from eventdb.scripting.lua import Lua

EVALS: Final = "noscript stale skip_monitor no_mandatory_keys movablekeys"
THAT_OF_THE_SCRIPT: Final = "That of the script"
SMALL: Final = {b"%d" % n: n for n in range(16)}  # numbers of keys, as most scripts have them


def lua_of(engine: Engine) -> Lua:
    """The engine's interpreter, made when it is first asked for. Raises ReplyError."""
    lua = engine.interpreter
    if isinstance(lua, Lua):
        return lua
    made = engine.interpreter = Lua(engine)
    return made


def check_count(argv: list[bytes], message: str = NOT_INTEGER) -> int:
    """`numkeys` at argv[2]. Raises ReplyError."""
    count = SMALL.get(argv[2], -1)
    if count < 0:
        count = parse_int(argv[2], message)
    if count > len(argv) - 3:
        raise ReplyError(NUMKEYS_TOO_LARGE)
    if count < 0:
        raise ReplyError("ERR Number of keys can't be negative")
    return count


def keys_of(argv: list[bytes]) -> list[bytes]:
    return find_numkeys(argv, 2)


def stop_script(engine: Engine, *, of_function: bool) -> bytes:
    """SCRIPT KILL and FUNCTION KILL: they reach a script only while others are answered. Raises ReplyError."""
    busy = engine.busy
    if not busy.answering:
        raise ReplyError(NOT_BUSY)
    if busy.wrote:
        raise ReplyError(UNKILLABLE)
    if busy.of_function != of_function:
        raise ReplyError(busy.text)
    busy.stop_text = KILLED
    return OK
