"""How long a command may take, judged before it runs: a primary runs a long one only under a lease that outlasts it.

A command holds the loop, and compiled code holds the interpreter too, so nothing can renew the lease meanwhile. What is
said here is a bound and no forecast: four times what an interpreted build needs on a slow machine. Said too high, a
command waits for one more record of the log, and a takeover in the middle of it comes later; said too low, it may end
the lease. Most commands cost nothing here: `Command.element_usec` is 0, and they are never asked.

Not judged: scripts, which renew the lease while they run (cluster/lease.py, rule 6), though not in the middle of one of
their commands; and DEBUG SLEEP, which is held to the lease as a loop that hangs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventdb.cluster.timing import EFFORT_S_MAX
from eventdb.engine.client import LARGE, Client
from eventdb.engine.command import WRITE, Command
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.set import SetValue
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.keyspace.value import Value
from eventdb.protocol.requests import ARGUMENT_BYTES

if TYPE_CHECKING:
    from eventdb.keyspace.databases import Db

LARGE_BYTES: Final = 4 << 20  # of a command and its arguments: from here on any command is judged
BYTE_USEC: Final = 0.01
ARGUMENT_USEC: Final = 10.0
CELL_USEC: Final = 0.015  # of LCS's table
PATTERN_USEC: Final = 20.0  # of SORT, for each element and each BY or GET
STRING_BYTES: Final = 512  # of a string, as much as one element
QUEUED_USEC: Final = 10.0
COPIED_USEC: Final = 1.0  # for each element of a key that an EXEC changes and may have to bring back
TOUCHED_USEC: Final = 0.001  # it reads few elements, but may be the first to ask for their order
RESTORED_USEC: Final = 2.0  # for each byte of a payload, of which two may be an element; of a string it is BYTE_USEC
MAKING_USEC: Final = 12.0  # for each element, of the order that a value keeps once somebody asked for it

# Microseconds for each element of what a command reads. Every command whose time grows with a value is here.
ELEMENT_USEC: Final[dict[str, float]] = {
    "exec": QUEUED_USEC, "eventdb.once": QUEUED_USEC,
    "eventdb.digest": 6.0, "eventdb.mark": 6.0,
    "keys": 2.0, "scan": 4.0, "hscan": 4.0, "sscan": 4.0, "zscan": 4.0,
    "flushall": 0.4, "flushdb": 0.4, "del": 0.4, "unlink": 0.4, "copy": 1.0,
    "sort": 3.0, "sort_ro": 3.0,
    "smembers": 2.0, "hgetall": 3.0, "hkeys": 2.0, "hvals": 2.0, "lrange": 2.0,
    "zrange": 3.0, "zrevrange": 3.0, "zrangebyscore": 3.0, "zrevrangebyscore": 3.0, "zrangebylex": 3.0,
    "zrevrangebylex": 3.0, "zrangestore": 50.0,
    "zremrangebyrank": 5.0, "zremrangebyscore": 5.0, "zremrangebylex": 5.0,
    "lrem": 0.2, "lpos": 0.2, "linsert": 0.2, "lset": 0.1, "lindex": 0.1, "ltrim": 0.4,
    "sunion": 3.0, "sinter": 3.0, "sdiff": 3.0, "sintercard": 1.0,
    "sunionstore": 5.0, "sinterstore": 5.0, "sdiffstore": 5.0,
    "zunion": 25.0, "zinter": 25.0, "zdiff": 10.0, "zintercard": 5.0,
    "zunionstore": 30.0, "zinterstore": 30.0, "zdiffstore": 30.0,
    "spop": 30.0, "srandmember": 4.0, "hrandfield": 4.0, "zrandmember": 4.0,
    "lpop": 8.0, "rpop": 8.0, "lmpop": 8.0, "zpopmin": 20.0, "zpopmax": 20.0, "zmpop": 20.0,
    "blmpop": 8.0, "bzpopmin": 20.0, "bzpopmax": 20.0, "bzmpop": 20.0,
    "zrank": TOUCHED_USEC, "zrevrank": TOUCHED_USEC, "zcount": TOUCHED_USEC, "zlexcount": TOUCHED_USEC,
    "cluster|countkeysinslot": 10.0, "cluster|getkeysinslot": 10.0, "cluster|slot-stats": 10.0, "memory|usage": 0.5,
    "lcs": CELL_USEC,
    "getrange": 1.0, "substr": 1.0, "digest": 60.0, "delex": 60.0,
    "dump": 6.0, "restore": RESTORED_USEC, "restore-asking": RESTORED_USEC,
}  # fmt: skip
_BY_RANK: Final = frozenset(("lrange", "zrange", "zrevrange", "ltrim"))  # from argv[2] to argv[3]
_COUNTED: Final = frozenset(  # argv[2], if it is given, else one
    ("spop", "srandmember", "hrandfield", "zrandmember", "lpop", "rpop", "zpopmin", "zpopmax")
)
_OPTIONS: Final = {  # COUNT, and without it
    "lmpop": 1, "zmpop": 1, "blmpop": 1, "bzmpop": 1, "scan": 10, "hscan": 10, "sscan": 10, "zscan": 10,
}  # fmt: skip
_FIRST: Final = frozenset(("bzpopmin", "bzpopmax"))  # one element
_ALL_KEYS: Final = frozenset(
    ("keys", "scan", "cluster|countkeysinslot", "cluster|getkeysinslot", "cluster|slot-stats")
)  # of one database
_EVERYTHING: Final = frozenset(("eventdb.digest", "eventdb.mark", "flushall", "flushdb"))
_PAYLOADS: Final = frozenset(("restore", "restore-asking"))
_MORE: Final = _PAYLOADS | _EVERYTHING | _ALL_KEYS | {"sort", "sort_ro", "lcs"}  # what does not depend on one key alone
_RANDOM: Final = frozenset(("spop", "srandmember", "hrandfield", "zrandmember", "sscan", "hscan", "zscan"))


def fits(client: Client, command: Command, argv: list[bytes], left_s: float) -> bool:
    """Whether the command is over, at the latest, before the lease is, which has `left_s` left (inf: there is none)."""
    if command.element_usec == 0.0 and not client.gate & LARGE:
        return True
    one_key = command.first_key == 1 and command.last_key == 1 and command.find_keys is None
    if one_key and command.inner is None and not client.gate & LARGE:
        if _whole_usec(client, command, argv) < left_s * 1e6:  # most values are that small
            return True
    if seconds(client, command, argv) >= left_s:
        return False
    if client.gate & LARGE and size_of(argv) > LARGE_BYTES // 2:
        client.gate &= ~LARGE  # that was the large one
    return True


def expected(client: Client, size: int) -> float:
    """A command of at least `size` bytes is coming in; returns the seconds that parsing it takes."""
    client.gate |= LARGE
    return BYTE_USEC * size / 1e6


def seconds(client: Client, command: Command, argv: list[bytes]) -> float:
    """What the command may take at most, for all that is known before it runs."""
    if command.inner is not None:
        inner = command.inner(argv)
        if isinstance(inner, str):
            return 0.0
        command, argv = inner, argv[2:]
    usec = 0.0
    if client.gate & LARGE:
        usec = ARGUMENT_USEC * len(argv) + BYTE_USEC * size_of(argv)
    if command.name == "exec":
        usec += BYTE_USEC * client.queue_bytes
        copied = client.is_atomic()
        for queued, args in client.queue:
            if copied and queued.bits & WRITE and queued.has_keys:
                usec += COPIED_USEC * sum([_elements(client.db.values.get(key)) for key in queued.keys(args)])
            usec += QUEUED_USEC + ARGUMENT_USEC * (len(args) - 1) + _reading(client, queued, args)
    else:
        usec += _reading(client, command, argv)
    return min(usec / 1e6, EFFORT_S_MAX)


def size_of(argv: list[bytes]) -> int:
    """Bytes of a command, with what its arguments cost beside their own."""
    return sum([len(arg) for arg in argv]) + ARGUMENT_BYTES * len(argv)


def _whole_usec(client: Client, command: Command, argv: list[bytes]) -> float:
    """No fewer microseconds than `_reading` says of a command with one key: as if it took every element."""
    if command.name in _MORE or (len(argv) > 2 and command.name in _COUNTED):
        return EFFORT_S_MAX * 1e6
    value = client.db.values.get(argv[1])
    usec = command.element_usec
    if isinstance(value, Value):
        if isinstance(value, ZSetValue):
            ordered = value.ranking is not None and command.name not in _RANDOM
        else:
            ordered = command.name not in _RANDOM
        return (usec if ordered else usec + MAKING_USEC) * (value.size() + 1)
    return usec * (_elements(value) + 1)


def _reading(client: Client, command: Command, argv: list[bytes]) -> float:
    """Microseconds for what it reads of the keyspace."""
    usec = command.element_usec
    name = command.name
    if usec == 0.0:
        return 0.0
    db = client.db
    if name in _ALL_KEYS:
        return usec * _taken(name, argv, len(db.values))
    if name in _PAYLOADS:
        return len(argv[3]) * (usec if argv[3][:1] != b"\0" else BYTE_USEC)
    if name == "eventdb.mark" and len(argv) == 2:
        return 0.0
    if name in _EVERYTHING:
        keyspace = client.store.keyspace
        return usec * (sum([_all(other) for other in keyspace.dbs]) + len(keyspace.outcomes.kept))
    keys = command.keys(argv)
    sizes = [_elements(db.values.get(key)) for key in keys]
    making = sum([_making(name, db.values.get(key)) for key in keys])
    if name == "lcs":
        return usec * max(sizes, default=0) * min(sizes, default=0) * STRING_BYTES**2
    if name == "sort" or name == "sort_ro":
        usec += PATTERN_USEC * sum([arg.upper() in (b"BY", b"GET") for arg in argv[2:]])
    return making + usec * _taken(name, argv, sum(sizes))


def _making(name: str, value: object) -> float:
    """Microseconds for the order of a value's elements, if the command is the first that needs it."""
    if name in _RANDOM:
        if isinstance(value, (SetValue, HashValue, ZSetValue)) and value.order is None:
            return MAKING_USEC * value.size()
    elif isinstance(value, ZSetValue) and value.ranking is None:
        return MAKING_USEC * value.size()
    return 0.0


def _all(db: Db) -> int:
    return sum([1 + _elements(value) for value in db.values.values()])


def _elements(value: object) -> int:
    if isinstance(value, Value):
        return value.size()
    return 0 if value is None else len(value) // STRING_BYTES + 1  # type: ignore[arg-type]


def _taken(name: str, argv: list[bytes], size: int) -> int:
    """How many of `size` elements the arguments let it touch, as far as that can be told at a glance."""
    n = len(argv)
    if name in _OPTIONS:
        for at in range(2, n - 1):
            if argv[at].upper() == b"COUNT":
                return min(size, abs(_integer(argv[at + 1], size)))
        return min(size, _OPTIONS[name])
    if name in _FIRST:
        return min(size, 1)
    if name in _COUNTED:
        return abs(_integer(argv[2], size)) if n > 2 else 1
    options = [arg.upper() for arg in argv[4:]]
    if b"LIMIT" in options[:-2]:
        at = options.index(b"LIMIT")
        offset, count = _integer(options[at + 1], size), _integer(options[at + 2], size)
        return size if count < 0 else min(size, max(offset, 0) + count)
    if name in _BY_RANK and n > 3 and b"BYSCORE" not in options and b"BYLEX" not in options:
        first, last = _integer(argv[2], 0), _integer(argv[3], -1)
        first = first + size if first < 0 else first
        last = last + size if last < 0 else last
        taken = max(0, min(last, size - 1) - max(first, 0) + 1)
        return size - taken if name == "ltrim" else taken
    return size


def _integer(arg: bytes, otherwise: int) -> int:
    """What the handler will read, or what stands for an argument that it is going to refuse."""
    try:
        return int(arg)
    except ValueError:
        return otherwise
