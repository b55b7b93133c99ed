"""Keyspace notifications: what a change is called (notify-keyspace-events).

One table says how an event of the log is called, a second one how a command calls its events otherwise: SPOP logs an
SREM and notifies of `spop`. A replica knows the events alone, and uses the first table alone.
Source: redis src/notify.c, and the names that a Redis 7.0 notifies of, command by command; for later
commands src/t_hash.c of Redis 8 and the documentation of each (INCREX, whose names nothing says, as INCRBY).
"""

from __future__ import annotations

from typing import Final

from eventdb.protocol.errors import ReplyError

KEYSPACE: Final = 1  # K: __keyspace@<db>__:<key>, the message is the name
KEYEVENT: Final = 2  # E: __keyevent@<db>__:<name>, the message is the key
MISS: Final = 4  # m: a read finds no key
NEW: Final = 8  # n: there was no such key
STREAM: Final = 16
CLASSES: Final[dict[str, int]] = {
    "g": 32, "$": 64, "l": 128, "s": 256, "h": 512, "z": 1024, "x": 2048, "e": 4096, "t": STREAM, "d": 8192,
}  # fmt: skip
ALL: Final = sum(CLASSES.values())
BITS: Final[dict[str, int]] = {**CLASSES, "A": ALL, "K": KEYSPACE, "E": KEYEVENT, "m": MISS, "n": NEW}
INVALID: Final = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."

# The class of each name; a name that is not here is of class g.
CLASS_OF: Final[dict[bytes, int]] = {
    name.encode(): CLASSES[kind]
    for kind, names in {
        "$": "set setrange append incrby incrbyfloat setbit pfadd",
        "l": "lpush rpush lpop rpop linsert lset lrem ltrim sortstore",
        "s": "sadd srem spop sinterstore sunionstore sdiffstore",
        "h": "hset hincrby hincrbyfloat hdel hexpire hpersist hexpired",
        "z": "zadd zincr zrem zremrangebyscore zremrangebyrank zremrangebylex zpopmin zpopmax zunionstore zinterstore"
        " zdiffstore zrangestore geosearchstore georadiusstore",
        "t": "xadd xtrim xdel xsetid xgroup-create xgroup-createconsumer xgroup-delconsumer xgroup-destroy"
        " xgroup-setid",
        "x": "expired",
        "e": "evicted",
    }.items()
    for name in names.split()
}

# Kinds of events that are called by a name of their own; the others are `News.name`'s.
OF_EVENT: Final[dict[bytes, bytes]] = {
    b"SADD": b"sadd", b"SREM": b"srem", b"ZADD": b"zadd", b"ZREM": b"zrem", b"HSET": b"hset", b"HDEL": b"hdel",
    b"APPEND": b"append", b"SETRANGE": b"setrange", b"LPUSH": b"lpush", b"RPUSH": b"rpush", b"LPOP": b"lpop",
    b"RPOP": b"rpop", b"LSET": b"lset", b"LINSERT": b"linsert", b"LREM": b"lrem", b"LTRIM": b"ltrim",
    b"PERSIST": b"persist", b"PEXPIREAT": b"expire", b"XADD": b"xadd", b"XDEL": b"xdel", b"XTRIM": b"xtrim",
    b"XSETID": b"xsetid", b"SET": b"set", b"HSETEX": b"hset", b"HPEXPIREAT": b"hexpire", b"HPERSIST": b"hpersist",
}  # fmt: skip
OF_ORIGIN: Final[dict[bytes, dict[bytes, bytes]]] = {  # of transactions that no client asked for
    b"expiry": {b"DEL": b"expired", b"HDEL": b"hexpired"},
    b"eviction": {b"DEL": b"evicted"},
}
NO_NAMES: Final[dict[bytes, bytes]] = {}
EMPTIES: Final = frozenset((b"SREM", b"ZREM", b"HDEL", b"LPOP", b"RPOP", b"LREM", b"LTRIM"))  # may leave no key

# What a command calls the change of a value; the deletion that the change may come to is told after it.
OF_COMMAND: Final[dict[str, bytes]] = {
    "append": b"append", "setrange": b"setrange", "spop": b"spop",
    "ltrim": b"ltrim", "hincrby": b"hincrby", "hincrbyfloat": b"hincrbyfloat", "zincrby": b"zincr",
    "incrbyfloat": b"incrbyfloat", "setbit": b"setbit", "bitfield": b"setbit", "pfadd": b"pfadd", "pfmerge": b"pfadd",
    "zrem": b"zrem", "srem": b"srem", "zremrangebyscore": b"zremrangebyscore", "zremrangebyrank": b"zremrangebyrank",
    "zremrangebylex": b"zremrangebylex",
    **dict.fromkeys(("incr", "decr", "incrby", "decrby"), b"incrby"),
    **dict.fromkeys(("zpopmin", "bzpopmin"), b"zpopmin"),
    **dict.fromkeys(("zpopmax", "bzpopmax"), b"zpopmax"),
}  # fmt: skip
RESTORED: Final = b"restore"
# Commands that put a result in place of what the destination held: one name, or `del` when there is no result.
STORES: Final[dict[str, bytes]] = {
    "sinterstore": b"sinterstore", "sunionstore": b"sunionstore", "sdiffstore": b"sdiffstore",
    "zunionstore": b"zunionstore", "zinterstore": b"zinterstore", "zdiffstore": b"zdiffstore",
    "zrangestore": b"zrangestore", "geosearchstore": b"geosearchstore", "georadius": b"georadiusstore",
    "georadiusbymember": b"georadiusstore", "sort": b"sortstore", "restore": RESTORED, "restore-asking": RESTORED,
}  # fmt: skip
SILENT: Final = frozenset(("pfcount", "pfdebug", "debug|populate"))  # what they write is no change for anybody
ONLY_CONSUMERS: Final = frozenset(("xclaim", "xautoclaim", "xreadgroup"))

# Commands that write and look for keys that they read before: from which of the keys they name; and those that read
# and report no miss.
READS_FROM: Final[dict[str, int]] = {
    "getdel": 0, "getex": 0, "getset": 0, "pfmerge": 0, "copy": 0, "sort": 0, "bitop": 1, "georadius": 0,
    "georadiusbymember": 0, "geosearchstore": 1, "zrangestore": 1, "sinterstore": 1, "sunionstore": 1, "sdiffstore": 1,
    "zunionstore": 1, "zinterstore": 1, "zdiffstore": 1,
}  # fmt: skip
NO_MISS: Final = frozenset(("memory|usage", "object|encoding", "object|freq", "object|idletime", "object|refcount"))


def parse_classes(text: str) -> int:
    """The bits of a value of notify-keyspace-events. Raises ReplyError, with Redis's text."""
    bits = 0
    for letter in text:
        if letter not in BITS:
            raise ReplyError(INVALID)
        bits |= BITS[letter]
    return bits


def show_classes(bits: int) -> str:
    """The value as CONFIG GET shows it; Redis 7.0 leaves the n out where there is an A."""
    if bits & ALL == ALL:
        return "A" + "".join([letter for letter in "KEmn" if bits & BITS[letter]])
    found = "".join([letter for letter in "g$lshzxetdn" if bits & BITS[letter]])
    return found + "".join([letter for letter in "KEm" if bits & BITS[letter]])


def command_name(command: str, argv: list[bytes], kind: bytes) -> bytes | None:
    """What this command calls an event of this kind; None: by the event's own name."""
    if command == "zadd" and kind == b"ZADD":
        return b"zincr" if b"INCR" in [arg.upper() for arg in argv[2:6]] else None
    if command == "zmpop" or command == "bzmpop":
        at = 2 if command == "zmpop" else 3
        count = int(argv[at - 1])
        return b"zpopmin" if argv[at + count].upper() == b"MIN" else b"zpopmax"
    if command == "increx":
        return b"incrbyfloat" if b"BYFLOAT" in [arg.upper() for arg in argv[2:]] else b"incrby"
    if kind == b"PEXPIREAT" or kind == b"PERSIST":
        return None
    return OF_COMMAND.get(command)


def moves(source: bytes, destination: bytes, side: bytes, to_side: bytes) -> list[tuple[bytes, bytes]]:
    """What moving an element from list to list is called: (key, name), in the order of Redis."""
    return [
        (destination, b"lpush" if to_side == b"LEFT" else b"rpush"),
        (source, b"lpop" if side == b"LEFT" else b"rpop"),
    ]
