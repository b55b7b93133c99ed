"""A whole state as one file and back, for whatever replay drives (replay/machine.py): what snapshots are made of.

Nothing may be lost on the way, so that the digest is the same afterwards: what has no place in Redis's format goes
along as facts, which other servers pass over (writer.py).
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.databases import Keyspace
from eventdb.keyspace.value import Value
from eventdb.rdb.codes import BadRdb, Unkept
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.rdb.writer import write
from eventdb.replay.machine import DamagedState, Machine, Read, Write

ORIGIN: Final = b"snapshot"


def dump(keyspace: Keyspace, target: Write, facts: dict[str, str]) -> None:
    """Raises DamagedState for what the format has no place for."""
    try:
        write(target, keyspace, facts)
    except Unkept as error:
        raise DamagedState(str(error)) from error


def load(machine: Machine, read: Read) -> None:
    """Into a machine that holds nothing. Raises DamagedState."""
    try:
        reader = FileReader(Source(b"", read))
        while events := reader.piece():
            transaction: list[bytes | list[bytes]] = [ORIGIN, *events]
            machine.apply([transaction])
            if machine.key_count() != reader.key_count:
                raise BadRdb(f"a key comes twice before byte {reader.source.position()}")
    except BadRdb as error:
        raise DamagedState(f"it cannot be loaded: {error}") from error
    except (AssertionError, LookupError, ValueError, TypeError) as failure:
        raise DamagedState(f"it cannot be loaded: what it holds cannot be put together ({failure!r})") from failure


def type_counts(keyspace: Keyspace) -> dict[str, int]:
    """Keys by the name of their type, sorted by it; strings are most of them."""
    counts: dict[str, int] = {}
    strings = 0
    for db in keyspace.dbs:
        for value in db.values.values():
            if isinstance(value, Value):
                name = value.type_name().decode()
                counts[name] = counts.get(name, 0) + 1
            else:
                strings += 1
    if strings:
        counts["string"] = strings
    return dict(sorted(counts.items()))
