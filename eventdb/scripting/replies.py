"""RESP replies as Lua values. Source: redis src/script_lua.c redisProtocolToLuaType.

Nothing, numbers, booleans and bytes go to Lua as they are; tables are made by `table_from`. A nil reply is false, as in
Redis, since nil ends a table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import hiredis

MakeTable = Callable[[Any], Any]

# What stands behind the first of several results of redis.call; a single one is the value.
ERROR: Final = 1
STATUS: Final = 2
STOPPED: Final = 3  # the error that ends the script
ITEMS: Final = 4  # of a table, which Lua makes in half the time
FEW: Final = 200  # of them; more would be too many for Lua's stack

_readers: Final = [hiredis.Reader()]


class Decoder:
    """One reply."""

    def __init__(self, data: bytes, table: MakeTable) -> None:
        self.data = data
        self.at = 0
        self.table = table

    def value(self) -> Any:
        data = self.data
        end = data.index(b"\r\n", self.at)
        mark = data[self.at]
        line = data[self.at + 1 : end]
        self.at = end + 2
        if mark in b"$=":
            return self._text(mark, int(line))
        if mark in b"*~%>":
            return self._items(mark, int(line))
        if mark == 58:  # ":"
            return int(line)
        if mark == 43:  # "+"
            return self.table({b"ok": line})
        if mark == 45:  # "-"
            return self.table({b"err": line})
        if mark == 44:  # ","
            return self.table({b"double": float(line)})
        if mark == 40:  # "("
            return self.table({b"big_number": line})
        if mark == 35:  # "#"
            return line == b"t"
        return None  # "_", which RESP3 alone has: nil

    def _text(self, mark: int, size: int) -> Any:
        if size < 0:
            return False
        found = self.data[self.at : self.at + size]
        self.at += size + 2
        if mark == 61:  # "="
            return self.table({b"verbatim_string": self.table({b"format": found[:3], b"string": found[4:]})})
        return found

    def _items(self, mark: int, count: int) -> Any:
        if count < 0:
            return False
        if mark == 37:  # "%"
            pairs = {}
            for _ in range(count):
                key = self.value()
                pairs[key] = self.value()
            return self.table({b"map": self.table(pairs)})
        if mark == 126:  # "~"
            return self.table({b"set": self.table({self.value(): True for _ in range(count)})})
        return self.table([self.value() for _ in range(count)])


def lua_value(data: bytes, table: MakeTable, resp3: bool) -> Any:
    """A value that goes to Lua as it is; (text, STATUS) or (text, ERROR); or (None, ITEMS, item, item …)."""
    mark = data[0]
    if mark == 36:  # "$"
        if data[1] == 45:
            return False
        return data[data.index(b"\r\n") + 2 : -2]
    if mark == 58:
        return int(data[1:-2])
    if mark == 43:
        return data[1:-2], STATUS
    if mark == 45:
        return data[1:-2], ERROR
    if mark == 42 and not resp3 and data.find(b"\r\n+") < 0 and data.find(b"\r\n-") < 0:
        return _items_of(data, table)
    return Decoder(data, table).value()


def _items_of(data: bytes, table: MakeTable) -> Any:
    """An array of RESP2 without statuses and errors, which hiredis does not tell from strings."""
    reader = _readers[0]
    reader.feed(data)
    try:
        found = reader.gets()
    except hiredis.ProtocolError:  # nested more deeply than it reads
        _readers[0] = hiredis.Reader()
        return Decoder(data, table).value()
    if found is None:
        return False
    if data.find(b"-1\r\n") >= 0 or data.find(b"\r\n*") >= 0:  # items that are nothing, or arrays
        found = [_item(each, table) for each in found]
    return (None, ITEMS, *found) if len(found) <= FEW else table(found)


def _item(value: Any, table: MakeTable) -> Any:
    if value is None:
        return False
    return table([_item(each, table) for each in value]) if isinstance(value, list) else value
