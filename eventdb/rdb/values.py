"""A value, in any encoding that Redis 2.8 to 8 and Valkey wrote, as the events that make it out of nothing.

Large values become several events, each of a bounded number of elements. Redis refuses what is empty, comes twice or
is no number, and so does this: `Bad data format`. Source: redis src/rdb.c rdbLoadObject.
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.types.zset import score_text
from eventdb.rdb import codes, compact, listpack
from eventdb.rdb.codes import BadRdb, Unkept
from eventdb.rdb.source import Source
from eventdb.rdb.streams import read_stream

ELEMENTS_MAX: Final = 1024  # in one event
PLAIN, PACKED = 1, 2  # nodes of a quicklist
NOT_A_NUMBER, INFINITE, MINUS_INFINITE = 253, 254, 255  # in place of the length of a score

# The shapes of what is read.
LISTS: Final = frozenset((codes.LIST, codes.LIST_ZIPLIST, codes.LIST_QUICKLIST, codes.LIST_QUICKLIST_2))
SETS: Final = frozenset((codes.SET, codes.SET_INTSET, codes.SET_LISTPACK))
ZSETS: Final = frozenset((codes.ZSET, codes.ZSET_2, codes.ZSET_ZIPLIST, codes.ZSET_LISTPACK))
HASHES: Final = frozenset((codes.HASH, codes.HASH_ZIPMAP, codes.HASH_ZIPLIST, codes.HASH_LISTPACK))
STREAMS: Final = frozenset(
    (codes.STREAM_LISTPACKS, codes.STREAM_LISTPACKS_2, codes.STREAM_LISTPACKS_3, codes.STREAM_LISTPACKS_4)
)
TIMED: Final = frozenset(
    (codes.HASH_METADATA_PRE_GA, codes.HASH_LISTPACK_EX_PRE_GA, codes.HASH_METADATA, codes.HASH_LISTPACK_EX)
)


def read_value(source: Source, kind: int, key: bytes, valkey: bool) -> list[list[bytes]]:
    """The events. Raises BadRdb; Unkept for what is sound and cannot be kept.

    valkey: the version of the format is one of Valkey's own, from 80 on.
    """
    source.unpacked = 0
    if kind == codes.STRING:
        return [[b"SET", key, source.string()]]
    if kind in LISTS:
        return _pieces(b"RPUSH", key, _list(source, kind), 1)
    if kind in SETS:
        return _pieces(b"SADD", key, _distinct(_set(source, kind), 1), 1)
    if kind in HASHES:
        return _pieces(b"HSET", key, _distinct(_hash(source, kind), 2), 2)
    if kind in ZSETS:
        return _pieces(b"ZADD", key, _zset(source, kind), 2)
    if kind in STREAMS and not (valkey and kind > codes.STREAM_LISTPACKS_3):  # whose 26 is another type
        return read_stream(source, kind, key)
    if kind in TIMED:
        return _timed(source, kind, key, valkey)
    if kind == codes.MODULE_2:
        raise Unkept(f"the value of a module, {module_name(source.length())}")
    raise Unkept(codes.UNREAD.get(kind, "a type that is not known") + f", type {kind} of the format")


def _pieces(name: bytes, key: bytes, flat: list[bytes], step: int) -> list[list[bytes]]:
    """Events of at most ELEMENTS_MAX elements, of `step` arguments each."""
    if not flat:
        raise BadRdb("a value without elements")
    size = ELEMENTS_MAX * step
    if len(flat) <= size:
        return [[name, key, *flat]]
    return [[name, key, *flat[at : at + size]] for at in range(0, len(flat), size)]


def _distinct(flat: list[bytes], step: int) -> list[bytes]:
    if len(flat) % step:
        raise BadRdb("a field without a value")
    if len(set(flat[::step])) * step != len(flat):
        raise BadRdb("an element that comes twice")
    return flat


def _strings(source: Source, count: int) -> list[bytes]:
    found: list[bytes] = []
    for _ in range(count):
        found.append(source.string())
    return found


def _list(source: Source, kind: int) -> list[bytes]:
    if kind == codes.LIST:
        return _strings(source, source.length())
    if kind == codes.LIST_ZIPLIST:
        return compact.read_ziplist(source.string())
    found: list[bytes] = []
    for _ in range(source.length()):
        if kind == codes.LIST_QUICKLIST:
            found += compact.read_ziplist(source.string())
            continue
        node = source.length()
        if node == PLAIN:
            found.append(source.string())
        elif node == PACKED:
            found += listpack.read(source.string())
        else:
            raise BadRdb(f"a node of a list of kind {node}")
    return found


def _set(source: Source, kind: int) -> list[bytes]:
    if kind == codes.SET:
        return _strings(source, source.length())
    if kind == codes.SET_INTSET:
        return compact.read_intset(source.string())
    return listpack.read(source.string())


def _hash(source: Source, kind: int) -> list[bytes]:
    if kind == codes.HASH:
        return _strings(source, 2 * source.length())
    if kind == codes.HASH_ZIPMAP:
        return compact.read_zipmap(source.string())
    if kind == codes.HASH_ZIPLIST:
        return compact.read_ziplist(source.string())
    return listpack.read(source.string())


def _zset(source: Source, kind: int) -> list[bytes]:
    """Scores and members in turn, as ZADD takes them."""
    found: list[bytes] = []
    if kind == codes.ZSET or kind == codes.ZSET_2:
        for _ in range(source.length()):
            member = source.string()
            score = source.double() if kind == codes.ZSET_2 else _old_score(source)
            if score != score:
                raise BadRdb("a score that is not a number")
            found.append(score_text(score))
            found.append(member)
    else:
        packed = source.string()
        flat = compact.read_ziplist(packed) if kind == codes.ZSET_ZIPLIST else listpack.read(packed)
        if len(flat) & 1:
            raise BadRdb("a member without a score")
        for i in range(0, len(flat), 2):
            found.append(score_text(_number(flat[i + 1])))
            found.append(flat[i])
    if len(set(found[1::2])) * 2 != len(found):
        raise BadRdb("a member that comes twice")
    return found


def _old_score(source: Source) -> float:
    """A score as text, after its length in one byte (type 3, until Redis 4)."""
    size = source.byte()
    if size == NOT_A_NUMBER:
        raise BadRdb("a score that is not a number")
    if size == INFINITE:
        return float("inf")
    if size == MINUS_INFINITE:
        return float("-inf")
    return _number(source.take(size))


def _number(text: bytes) -> float:
    try:
        found = float("nan") if b"_" in text else float(text)
    except ValueError:
        found = float("nan")
    if found != found:
        raise BadRdb(f"a score that is not a number: {text[:32]!r}")
    return found


def _timed(source: Source, kind: int, key: bytes, valkey: bool) -> list[list[bytes]]:
    """A hash whose fields may have deadlines. Type 24 counts them from the earliest one; elsewhere they are Unix ms."""
    flat: list[bytes] = []
    times: dict[int, list[bytes]] = {}
    if valkey:
        if kind != codes.HASH_2_OF_VALKEY:
            raise Unkept(f"a type that is not known, type {kind} of Valkey's format")
        for _ in range(source.length()):
            flat += (source.string(), source.string())
            at_ms = source.int64()
            if at_ms != -1:
                times.setdefault(at_ms, []).append(flat[-2])
    elif kind == codes.HASH_METADATA or kind == codes.HASH_METADATA_PRE_GA:
        before = source.int64() - 1 if kind == codes.HASH_METADATA else 0
        for _ in range(source.length()):
            after = source.length()
            flat += (source.string(), source.string())
            if after:
                times.setdefault(before + after, []).append(flat[-2])
    else:
        if kind == codes.HASH_LISTPACK_EX:
            source.uint64()  # the earliest of the deadlines
        triples = listpack.read(source.string())
        if len(triples) % 3:
            raise BadRdb("a field without a value or a deadline")
        for i in range(0, len(triples), 3):
            flat += triples[i : i + 2]
            if triples[i + 2] != b"0":
                times.setdefault(_integer(triples[i + 2]), []).append(triples[i])
    events = _pieces(b"HSET", key, _distinct(flat, 2), 2)
    for at_ms, fields in times.items():
        if not 0 <= at_ms < 1 << 63:
            raise BadRdb(f"a field with a deadline of {at_ms}")
        events.append([b"HPEXPIREAT", key, b"%d" % at_ms, b"FIELDS", b"%d" % len(fields), *fields])
    return events


def _integer(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRdb(f"a deadline that is not a number: {text[:32]!r}") from None


ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def module_name(number: int) -> str:
    """A module's name and the version of its encoding, out of its 64-bit number. Source: redis src/module.c."""
    letters = bytes([ALPHABET[(number >> (10 + 6 * i)) & 63] for i in range(8, -1, -1)])
    return f"{letters.decode()!r} version {number & 1023}"


def skip_module(source: Source) -> None:
    """Pass over what a module has written after its number: every item says what it is."""
    while True:
        kind = source.length()
        if kind == 0:
            return
        if kind in (1, 2):
            source.length()
        elif kind == 3:
            source.take(4)
        elif kind == 4:
            source.take(8)
        elif kind == 5:
            source.string()
        else:
            raise BadRdb(f"an item of kind {kind} in the value of a module")
