"""Taking elements off lists and moving them, for the commands that wait for an element and those that do not."""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import list_to_write
from eventdb.engine.client import Client
from eventdb.keyspace.types.list import ListValue, apply_lpop, apply_rpop
from eventdb.protocol.errors import COUNT_NOT_POSITIVE, NUMKEYS_TOO_SMALL, syntax_error
from eventdb.protocol.numbers import parse_at_least
from eventdb.protocol.replies import array, bulk, bulks

LEFT: Final = b"LEFT"
RIGHT: Final = b"RIGHT"
LPOP: Final = b"LPOP"
RPOP: Final = b"RPOP"


def parse_side(text: bytes) -> bytes:
    side = text.upper()
    if side != LEFT and side != RIGHT:
        raise syntax_error()
    return side


def pop_one(client: Client, key: bytes, value: ListValue, left: bool) -> bytes:
    """Take the first or last element off; `value` is the list at `key`."""
    db = client.db
    if left:
        element = value.get(0)
        apply_lpop(db, [LPOP, key])
        data = b"*2\r\n$4\r\nLPOP\r\n$%d\r\n%b\r\n" % (len(key), key)
    else:
        element = value.get(len(value.front) + len(value.back) - 1)
        apply_rpop(db, [RPOP, key])
        data = b"*2\r\n$4\r\nRPOP\r\n$%d\r\n%b\r\n" % (len(key), key)
    client.store.record(db, key, data)
    return element


def pop_many(client: Client, key: bytes, value: ListValue, left: bool, count: int) -> list[bytes]:
    """Take up to `count` elements off, in the order in which single pops would."""
    n = value.size()
    if count > n:
        count = n
    if left:
        found = value.slice(0, count)
    else:
        found = value.slice(n - count, n)
        found.reverse()
    client.emit([LPOP if left else RPOP, key, b"%d" % count])
    return found


def move(client: Client, source: bytes, destination: bytes, side: bytes, to_side: bytes, value: ListValue) -> bytes:
    """Move one element; `value` is the list at `source`."""
    list_to_write(client, destination)  # WRONGTYPE if it is none
    size = value.size()
    element = value.get(0 if side == LEFT else size - 1)
    if source != destination or (size > 1 and side != to_side):
        client.emit([b"LMOVE", source, destination, side, to_side])
    else:
        client.store.touch_unchanged(client.db, source)
    return bulk(element)


class ManyPop:
    """What LMPOP and BLMPOP ask for."""

    def __init__(self, keys: list[bytes], left: bool, count: int) -> None:
        self.keys = keys
        self.left = left
        self.count = count


def parse_many_pop(argv: list[bytes], at: int) -> ManyPop:
    """Read `numkeys key … LEFT|RIGHT [COUNT n]` from argv[at] on."""
    numkeys = parse_at_least(argv[at], 1, NUMKEYS_TOO_SMALL)
    where = at + 1 + numkeys
    n = len(argv)
    if where >= n:
        raise syntax_error()
    side = parse_side(argv[where])
    count = -1
    i = where + 1
    while i < n:
        if count >= 0 or argv[i].upper() != b"COUNT" or i + 1 >= n:
            raise syntax_error()
        count = parse_at_least(argv[i + 1], 1, COUNT_NOT_POSITIVE)
        i += 2
    return ManyPop(argv[at + 1 : where], side == LEFT, 1 if count < 0 else count)


def many_pop(client: Client, key: bytes, value: ListValue, wanted: ManyPop) -> bytes:
    """Pop from this list, and answer as LMPOP does."""
    found = pop_many(client, key, value, wanted.left, wanted.count)
    return array([bulk(key), bulks(found)])
