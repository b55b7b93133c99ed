"""Lists that do not block. Source: redis src/t_list.c, src/commands/*.json (group list)."""

from __future__ import annotations

from eventdb.commands.shared.counts import count_to_pop
from eventdb.commands.shared.list_changes import (
    LEFT,
    RIGHT,
    many_pop,
    move,
    parse_many_pop,
    parse_side,
    pop_many,
    pop_one,
)
from eventdb.commands.shared.lookups import list_to_read, list_to_write
from eventdb.engine.client import Client
from eventdb.engine.registry import command, find_numkeys
from eventdb.keyspace.types.list import ListValue, apply_lpush, apply_rpush
from eventdb.protocol.errors import INDEX_OUT_OF_RANGE, NO_SUCH_KEY, ReplyError, syntax_error, wrong_arity
from eventdb.protocol.numbers import parse_at_least, parse_int
from eventdb.protocol.replies import (
    EMPTY_ARRAY,
    OK,
    SMALL_INTEGERS,
    ZERO,
    array,
    bulk,
    bulks,
    integer,
    null,
    null_array,
)

# -- push


def push(client: Client, argv: list[bytes], left: bool, value: ListValue | None) -> bytes:
    """Push argv[2:] and answer with the length."""
    key = argv[1]
    db = client.db
    if len(argv) == 3:  # the hottest event of a queue: encoded in one go
        element = argv[2]
        if left:
            apply_lpush(db, argv)
            data = b"*3\r\n$5\r\nLPUSH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(element), element)
        else:
            apply_rpush(db, argv)
            data = b"*3\r\n$5\r\nRPUSH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(element), element)
        client.store.record(db, key, data)
        if value is None:
            return SMALL_INTEGERS[1]
    else:
        client.emit([b"LPUSH" if left else b"RPUSH", *argv[1:]])
        if value is None:
            return integer(len(argv) - 2)
    return integer(len(value.front) + len(value.back))


@command(
    "LPUSH", arity=-3, flags="write denyoom fast", keys=(1, 1, 1), acl="list", group="list",
    complexity="O(N) for N elements pushed", summary="Puts elements before the head of a list, new or not.",
)  # fmt: skip
def lpush(client: Client, argv: list[bytes]) -> bytes:
    return push(client, argv, True, list_to_write(client, argv[1]))


@command(
    "RPUSH", arity=-3, flags="write denyoom fast", keys=(1, 1, 1), acl="list", group="list",
    complexity="O(N) for N elements pushed", summary="Puts elements behind the tail of a list, new or not.",
)  # fmt: skip
def rpush(client: Client, argv: list[bytes]) -> bytes:
    return push(client, argv, False, list_to_write(client, argv[1]))


@command(
    "LPUSHX", arity=-3, flags="write denyoom fast", keys=(1, 1, 1), acl="list", group="list", since="2.2.0",
    complexity="O(N) for N elements pushed", summary="Puts elements before the head of a list that is there.",
)  # fmt: skip
def lpushx(client: Client, argv: list[bytes]) -> bytes:
    value = list_to_write(client, argv[1])
    return ZERO if value is None else push(client, argv, True, value)


@command(
    "RPUSHX", arity=-3, flags="write denyoom fast", keys=(1, 1, 1), acl="list", group="list", since="2.2.0",
    complexity="O(N) for N elements pushed", summary="Puts elements behind the tail of a list that is there.",
)  # fmt: skip
def rpushx(client: Client, argv: list[bytes]) -> bytes:
    value = list_to_write(client, argv[1])
    return ZERO if value is None else push(client, argv, False, value)


# -- pop


def pop(client: Client, argv: list[bytes], left: bool) -> bytes:
    """LPOP and RPOP."""
    n = len(argv)
    if n == 2:
        value = list_to_write(client, argv[1])
        if value is None:
            return null(client.resp3)
        return bulk(pop_one(client, argv[1], value, left))
    if n > 3:
        raise wrong_arity("lpop" if left else "rpop")
    count = count_to_pop(argv[2])
    value = list_to_write(client, argv[1])
    if value is None:
        return null_array(client.resp3)
    if count == 0:
        return EMPTY_ARRAY
    return bulks(pop_many(client, argv[1], value, left, count))


@command(
    "LPOP", arity=-2, flags="write fast", keys=(1, 1, 1), acl="list", group="list",
    complexity="O(N) for N elements taken", summary="Takes elements off the head of a list and returns them.",
)  # fmt: skip
def lpop(client: Client, argv: list[bytes]) -> bytes:
    return pop(client, argv, True)


@command(
    "RPOP", arity=-2, flags="write fast", keys=(1, 1, 1), acl="list", group="list",
    complexity="O(N) for N elements taken", summary="Takes elements off the tail of a list and returns them.",
)  # fmt: skip
def rpop(client: Client, argv: list[bytes]) -> bytes:
    return pop(client, argv, False)


# -- read


@command(
    "LLEN", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="list", group="list",
    summary="Returns how many elements a list has.",
)  # fmt: skip
def llen(client: Client, argv: list[bytes]) -> bytes:
    value = list_to_read(client, argv[1])
    return ZERO if value is None else integer(value.size())


def clamp(start: int, stop: int, size: int) -> tuple[int, int]:
    """Redis's range, stop inclusive and negative from the end, as one in [0, size) with stop exclusive."""
    if start < 0:
        start = max(0, start + size)
    if stop < 0:
        stop += size
    return start, min(stop, size - 1) + 1


@command(
    "LRANGE", arity=4, flags="readonly", keys=(1, 1, 1), acl="list", group="list",
    complexity="O(N) for N elements returned", summary="Returns the elements between two indexes.",
)  # fmt: skip
def lrange(client: Client, argv: list[bytes]) -> bytes:
    start, stop = parse_int(argv[2]), parse_int(argv[3])
    value = list_to_read(client, argv[1])
    if value is None:
        return EMPTY_ARRAY
    start, stop = clamp(start, stop, value.size())
    return bulks(value.slice(start, stop)) if start < stop else EMPTY_ARRAY


@command(
    "LINDEX", arity=3, flags="readonly", keys=(1, 1, 1), acl="list", group="list",
    summary="Returns the element at an index.",
)  # fmt: skip
def lindex(client: Client, argv: list[bytes]) -> bytes:
    value = list_to_read(client, argv[1])
    if value is None:
        return null(client.resp3)
    index = parse_int(argv[2])
    size = value.size()
    if index < 0:
        index += size
    return bulk(value.get(index)) if 0 <= index < size else null(client.resp3)


@command(
    "LPOS", arity=-3, flags="readonly", keys=(1, 1, 1), acl="list", group="list", since="6.0.6",
    complexity="O(N) for N elements compared", summary="Returns the indexes of elements that are equal to one.",
)  # fmt: skip
def lpos(client: Client, argv: list[bytes]) -> bytes:
    rank, count, max_length = 1, -1, 0
    for i in range(3, len(argv), 2):
        option = argv[i].upper()
        if i + 1 == len(argv):
            raise syntax_error()
        if option == b"RANK":
            rank = parse_int(argv[i + 1])
            if rank == 0:
                raise ReplyError(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative"
                    " to start from the end of the list"
                )
        elif option == b"COUNT":
            count = parse_at_least(argv[i + 1], 0, "ERR COUNT can't be negative")
        elif option == b"MAXLEN":
            max_length = parse_at_least(argv[i + 1], 0, "ERR MAXLEN can't be negative")
        else:
            raise syntax_error()
    value = list_to_read(client, argv[1])
    found: list[int] = []
    if value is not None:
        found = positions(value, argv[2], rank, 1 if count < 0 else count, max_length)
    if count >= 0:
        return array([integer(position) for position in found])
    return integer(found[0]) if found else null(client.resp3)


def positions(value: ListValue, element: bytes, rank: int, count: int, max_length: int) -> list[int]:
    """Where the element is: from the rank-th match on, from the tail when rank < 0; count 0 means all."""
    size = value.size()
    compared = size if max_length == 0 else min(size, max_length)
    skip = abs(rank) - 1
    found: list[int] = []
    low, high = (0, compared) if rank > 0 else (size - compared, size)
    while low < high:
        if rank > 0:
            at = value.find(element, low, high)
            low = at + 1
        else:
            at = value.find_last(element, low, high)
            high = at
        if at < 0:
            break
        if skip > 0:
            skip -= 1
            continue
        found.append(at)
        if len(found) == count:
            break
    return found


# -- change in the middle


@command(
    "LSET", arity=4, flags="write denyoom", keys=(1, 1, 1), acl="list", group="list",
    summary="Replaces the element at an index.",
)  # fmt: skip
def lset(client: Client, argv: list[bytes]) -> bytes:
    value = list_to_write(client, argv[1])
    if value is None:
        raise ReplyError(NO_SUCH_KEY)
    index = parse_int(argv[2])
    size = value.size()
    if index < 0:
        index += size
    if not 0 <= index < size:
        raise ReplyError(INDEX_OUT_OF_RANGE)
    client.emit([b"LSET", argv[1], b"%d" % index, argv[3]])
    return OK


@command(
    "LINSERT", arity=5, flags="write denyoom", keys=(1, 1, 1), acl="list", group="list", since="2.2.0",
    complexity="O(N) for N elements before the pivot", summary="Inserts an element before or after another one.",
)  # fmt: skip
def linsert(client: Client, argv: list[bytes]) -> bytes:
    where = argv[2].upper()
    if where != b"BEFORE" and where != b"AFTER":
        raise syntax_error()
    value = list_to_write(client, argv[1])
    if value is None:
        return ZERO
    if not value.has(argv[3]):
        return b":-1\r\n"
    client.emit([b"LINSERT", argv[1], where, argv[3], argv[4]])
    return integer(value.size())


@command(
    "LREM", arity=4, flags="write", keys=(1, 1, 1), acl="list", group="list",
    complexity="O(N) for N elements compared", summary="Removes elements that are equal to one.",
)  # fmt: skip
def lrem(client: Client, argv: list[bytes]) -> bytes:
    count = parse_int(argv[2])
    value = list_to_write(client, argv[1])
    if value is None:
        return ZERO
    if not value.has(argv[3]):
        return ZERO
    before = value.size()
    client.emit([b"LREM", argv[1], b"%d" % count, argv[3]])
    return integer(before - value.size())


@command(
    "LTRIM", arity=4, flags="write", keys=(1, 1, 1), acl="list", group="list",
    complexity="O(N) for N elements removed", summary="Keeps the elements between two indexes and removes the others.",
)  # fmt: skip
def ltrim(client: Client, argv: list[bytes]) -> bytes:
    start, stop = parse_int(argv[2]), parse_int(argv[3])
    value = list_to_write(client, argv[1])
    if value is None:
        return OK
    size = value.size()
    start, stop = clamp(start, stop, size)
    if start >= stop:
        client.emit([b"DEL", argv[1]])
    elif start > 0 or stop < size:
        client.emit([b"LTRIM", argv[1], b"%d" % start, b"%d" % (stop - 1)])
    else:
        client.store.touch_unchanged(client.db, argv[1])
    return OK


# -- from list to list


@command(
    "LMOVE", arity=5, flags="write denyoom", keys=(1, 2, 1), acl="list", group="list", since="6.2.0",
    summary="Takes an element off one list, puts it on another (or the same) and returns it.",
)  # fmt: skip
def lmove(client: Client, argv: list[bytes]) -> bytes:
    side, to_side = parse_side(argv[3]), parse_side(argv[4])
    value = list_to_write(client, argv[1])
    if value is None:
        return null(client.resp3)
    return move(client, argv[1], argv[2], side, to_side, value)


@command(
    "RPOPLPUSH", arity=3, flags="write denyoom", keys=(1, 2, 1), acl="list", group="list", since="1.2.0",
    summary="Takes the last element off one list, puts it first on another and returns it (use LMOVE).",
)  # fmt: skip
def rpoplpush(client: Client, argv: list[bytes]) -> bytes:
    value = list_to_write(client, argv[1])
    if value is None:
        return null(client.resp3)
    return move(client, argv[1], argv[2], RIGHT, LEFT, value)


# -- LMPOP


def _lmpop_keys(argv: list[bytes]) -> list[bytes]:
    return find_numkeys(argv, 1)


@command(
    "LMPOP", arity=-4, flags="write movablekeys", find_keys=_lmpop_keys, acl="list", group="list", since="7.0.0",
    complexity="O(N+M) for N keys and M elements taken",
    summary="Takes elements off the first list that is there, and returns its key and them.",
)  # fmt: skip
def lmpop(client: Client, argv: list[bytes]) -> bytes:
    wanted = parse_many_pop(argv, 1)
    for key in wanted.keys:
        value = list_to_write(client, key)
        if value is not None:
            return many_pop(client, key, value, wanted)
    return null_array(client.resp3)
