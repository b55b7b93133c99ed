"""RESP replies as Lua values. Source: redis src/script_lua.c redisProtocolToLuaType.

Nothing, numbers, booleans and bytes go to Lua as they are; tables are made by `table_from`. A nil reply is false, as in
Redis, since nil ends a table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MakeTable = Callable[[Any], Any]


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


def lua_value(data: bytes, table: MakeTable) -> tuple[int, Any]:
    """(0, value), (1, text of an error) or (2, text of a status)."""
    mark = data[0]
    if mark == 36:  # "$"
        if data[1] == 45:
            return 0, False
        return 0, data[data.index(b"\r\n") + 2 : -2]
    if mark == 58:
        return 0, int(data[1:-2])
    if mark == 43:
        return 2, data[1:-2]
    if mark == 45:
        return 1, data[1:-2]
    return 0, Decoder(data, table).value()
