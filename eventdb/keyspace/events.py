"""Events: the one way in which the keyspace changes.

An event is a canonical Redis command: absolute times, no chance, no condition. For each kind there is one apply
function. The primary calls it as a handler emits the event, a replica calls it as it replays the log, so
the two cannot drift apart. Apply functions never fail on an event that a primary emitted: they assert.

The kinds for a data type stand beside it in values/; the ones for every type stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from eventdb.keyspace.databases import Db, Keyspace
from eventdb.keyspace.outcomes import Outcome
from eventdb.keyspace.value import NEVER, Value
from eventdb.protocol.replies import bulks

Apply = Callable[[Db, list[bytes]], None]

KEY_NONE: Final = 0  # it changes what stands beside the keys, whose readers wait for every batch
KEY_FIRST: Final = 1  # argv[1] is the key
KEY_FIRST_TWO: Final = 2  # argv[1] and argv[2]
KEY_ALL: Final = 3  # every argument
KEY_PAIRS: Final = 4  # argv[1], argv[3], argv[5] …
KEY_WHOLE: Final = 5  # the whole database, or all of them
KEY_COPY: Final = 6  # argv[2] in database argv[4]
KEY_MOVE: Final = 7  # argv[1], here and in database argv[2]
KEY_SECOND: Final = 8  # argv[2] is the key


class Event:
    """One event kind: its name, which keys it touches, and the function that applies it."""

    def __init__(self, name: bytes, keys: int, apply: Apply) -> None:
        self.name = name
        self.keys = keys
        self.apply = apply


EVENTS: Final[dict[bytes, Event]] = {}


def encode_event(argv: list[bytes]) -> bytes:
    """An event as a RESP array of bulk strings."""
    n = len(argv)
    if n == 3:
        a, b, c = argv[0], argv[1], argv[2]
        return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(a), a, len(b), b, len(c), c)
    if n == 4:
        a, b, c, d = argv[0], argv[1], argv[2], argv[3]
        return b"*4\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            len(a), a, len(b), b, len(c), c, len(d), d
        )  # fmt: skip
    return bulks(argv)


def touched_keys(argv: list[bytes], keys: int) -> list[bytes] | None:
    """The keys that an event touches, of one kind of KEY_…; None: it may be any."""
    if keys in (KEY_FIRST, KEY_MOVE):
        return argv[1:2]
    if keys == KEY_NONE:
        return []
    if keys == KEY_ALL:
        return argv[1:]
    if keys == KEY_FIRST_TWO:
        return argv[1:3]
    if keys == KEY_PAIRS:
        return argv[1::2]
    return argv[2:3] if keys in (KEY_COPY, KEY_SECOND) else None


def event(name: bytes, keys: int = KEY_FIRST) -> Callable[[Apply], Apply]:
    """Register the decorated function as the one that applies events of this name."""

    def register(apply: Apply) -> Apply:
        assert name not in EVENTS, name
        EVENTS[name] = Event(name, keys, apply)
        return apply

    return register


def apply_transactions(keyspace: Keyspace, transactions: list[list[bytes | list[bytes]]]) -> int:
    """Apply transactions read from the log, each [origin, event, event …]; return how many events there were.

    A transaction starts in database 0; a `SELECT n` event moves it. KeyError: an event kind this version
    does not know, which stops replay rather than skip history. This loop is the speed of a restart: a plain SET
    is applied in place, and does what apply_set does.
    """
    first = keyspace.dbs[0]
    count = 0
    for transaction in transactions:
        db = first
        for i in range(1, len(transaction)):
            argv = cast("list[bytes]", transaction[i])
            name = argv[0]
            if name == b"SET" and len(argv) == 3:
                key = argv[1]
                values = db.values
                before = len(values)
                values[key] = argv[2]
                if len(values) != before:
                    if db.order is not None:
                        db.order.added(key)
                elif db.expires:
                    db.expires.pop(key, None)
            elif name == b"SELECT":
                db = keyspace.dbs[int(argv[1])]
            else:
                EVENTS[name].apply(db, argv)
        count += len(transaction) - 1
    return count


def apply_set(db: Db, argv: list[bytes]) -> None:
    """SET key value [PXAT ms | KEEPTTL]. Without an option the deadline goes."""
    key = argv[1]
    db.put(key, argv[2])
    if len(argv) == 3:
        if db.expires:
            db.expires.pop(key, None)
    elif argv[3] == b"PXAT":
        db.set_deadline(key, int(argv[4]))


event(b"SET")(apply_set)  # not as a decorator, so that compiled callers reach the function itself


@event(b"MSET", KEY_PAIRS)
def apply_mset(db: Db, argv: list[bytes]) -> None:
    """MSET key value [key value …]; deadlines of these keys go."""
    for i in range(1, len(argv), 2):
        db.put(argv[i], argv[i + 1])
        if db.expires:
            db.expires.pop(argv[i], None)


@event(b"DEL", KEY_ALL)
def apply_del(db: Db, argv: list[bytes]) -> None:
    """DEL key [key …]; keys that are not there are passed over."""
    for i in range(1, len(argv)):
        db.delete(argv[i])


@event(b"PEXPIREAT")
def apply_pexpireat(db: Db, argv: list[bytes]) -> None:
    """PEXPIREAT key ms."""
    assert argv[1] in db.values
    db.set_deadline(argv[1], int(argv[2]))


@event(b"PERSIST")
def apply_persist(db: Db, argv: list[bytes]) -> None:
    """PERSIST key; its deadline is gone."""
    db.clear_deadline(argv[1])


@event(b"RENAME", KEY_FIRST_TWO)
def apply_rename(db: Db, argv: list[bytes]) -> None:
    """RENAME key newkey; the deadline moves along, what newkey held is gone."""
    key, new = argv[1], argv[2]
    value, at_ms = db.values[key], db.expires.get(key)
    if key == new:
        return
    db.delete(key)
    db.delete(new)
    db.put(new, value)
    if isinstance(value, Value) and value.soonest() < NEVER:
        db.track(new, value)
    if at_ms is not None:
        db.set_deadline(new, at_ms)


@event(b"COPY", KEY_COPY)
def apply_copy(db: Db, argv: list[bytes]) -> None:
    """COPY source destination DB n; replaces what the destination held."""
    source, destination = argv[1], argv[2]
    target = db.keyspace.dbs[int(argv[4])]
    value, at_ms = db.values[source], db.expires.get(source)
    target.delete(destination)
    if isinstance(value, Value):
        value = value.copy()
    elif isinstance(value, bytearray):
        value = bytearray(value)
    target.put(destination, value)
    if isinstance(value, Value) and value.soonest() < NEVER:
        target.track(destination, value)
    if at_ms is not None:
        target.set_deadline(destination, at_ms)


@event(b"MOVE", KEY_MOVE)
def apply_move(db: Db, argv: list[bytes]) -> None:
    """MOVE key db."""
    key, target = argv[1], db.keyspace.dbs[int(argv[2])]
    value, at_ms = db.values[key], db.expires.get(key)
    db.delete(key)
    target.put(key, value)
    if isinstance(value, Value) and value.soonest() < NEVER:
        target.track(key, value)
    if at_ms is not None:
        target.set_deadline(key, at_ms)


@event(b"SWAPDB", KEY_WHOLE)
def apply_swapdb(db: Db, argv: list[bytes]) -> None:
    """SWAPDB index index; each has what the other had."""
    db.keyspace.swap(int(argv[1]), int(argv[2]))


@event(b"FLUSHDB", KEY_WHOLE)
def apply_flushdb(db: Db, argv: list[bytes]) -> None:
    """FLUSHDB; of the database that the event is for."""
    db.clear()


@event(b"FLUSHALL", KEY_WHOLE)
def apply_flushall(db: Db, argv: list[bytes]) -> None:
    """FLUSHALL; of every database."""
    for each in db.keyspace.dbs:
        each.clear()


@event(b"EVENTDB.RAN", KEY_NONE)
def apply_ran(db: Db, argv: list[bytes]) -> None:
    """EVENTDB.RAN token ms offset fingerprint reply [reply in RESP2, where it differs]."""
    reply = argv[5]
    db.keyspace.outcomes.add(
        Outcome(argv[1], int(argv[2]), int(argv[3]), argv[4], reply, argv[6] if len(argv) > 6 else reply)
    )


@event(b"EVENTDB.FORGET", KEY_NONE)
def apply_forget(db: Db, argv: list[bytes]) -> None:
    """EVENTDB.FORGET n: the n oldest outcomes."""
    db.keyspace.outcomes.forget(int(argv[1]))
