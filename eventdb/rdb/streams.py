"""Streams in Redis's format: listpacks of entries, then ids and counters, then groups with what waits in them.

A listpack holds entries that are alike: its first elements are how many there are and the names of the fields that most
of them have; an entry has only the values then, and its id as the difference to the first one. Sources: redis
src/t_stream.c (streamAppendItem), src/rdb.c (rdbSaveObject, rdbSaveStreamPEL, rdbSaveStreamConsumers).

What a consumer was last *given* (as opposed to asked for) came with Redis 7.2 (type 21); in older forms the time it
asked stands in for it, as in Redis 7.2.
"""

from __future__ import annotations

from typing import Final

import hiredis

from eventdb.keyspace.types.pending import NEVER, UNKNOWN, Group
from eventdb.keyspace.types.stream import SEQ_MAX, Block, StreamValue, id_text, read_id
from eventdb.rdb import codes, listpack
from eventdb.rdb.codes import MASK64, BadRdb, Unkept
from eventdb.rdb.out import Out
from eventdb.rdb.source import Source

DELETED: Final = 1
SAME_FIELDS: Final = 2
PENDING_MAX: Final = 1024  # ids in one event


class _Consumer:
    def __init__(self, name: bytes, seen_ms: int, active_ms: int) -> None:
        self.name = name
        self.seen_ms = seen_ms
        self.active_ms = active_ms


def read_stream(source: Source, kind: int, key: bytes) -> list[list[bytes]]:
    """The events that make the stream."""
    events: list[list[bytes]] = []
    newest = 0
    for _ in range(source.length()):
        base = source.string()
        if len(base) != 16:
            raise BadRdb("a stream's node without an id")
        newest = _read_entries(int.from_bytes(base, "big"), source.string(), key, newest, events)
    count = len(events)
    length, last_id = source.length(), _read_id(source)
    if length != count:
        raise BadRdb(f"a stream of {count} entries that says {length}")
    if newest > last_id:
        raise BadRdb("a stream with an entry after its last id")
    max_deleted, added = 0, length
    if kind >= codes.STREAM_LISTPACKS_2:
        _read_id(source)  # of the first entry
        max_deleted, added = _read_id(source), source.length()
    if count == 0:  # a stream is made by its first entry or its first group
        events.append([b"XGROUP", b"CREATE", key, b"x", b"0-0", b"ENTRIESREAD", b"0"])
        events.append([b"XGROUP", b"DESTROY", key, b"x"])
    events.append(
        [b"XSETID", key, id_text(last_id), b"ENTRIESADDED", b"%d" % added, b"MAXDELETEDID", id_text(max_deleted)]
    )
    first_id = read_id(events[0][2]) if count else 0
    names: set[bytes] = set()
    for _ in range(source.length()):
        name = source.string()
        if name in names:
            raise BadRdb("a group that comes twice")
        names.add(name)
        group_id = _read_id(source)
        if kind >= codes.STREAM_LISTPACKS_2:
            read = source.length()
            read = UNKNOWN if read > MASK64 >> 1 else read
        else:
            read = _entries_read(group_id, first_id, last_id, count)
        events.append([b"XGROUP", b"CREATE", key, name, id_text(group_id), b"ENTRIESREAD", b"%d" % read])
        _read_group(source, kind, key, name, events)
    if kind == codes.STREAM_LISTPACKS_4:
        _read_producers(source)
    return events


def _entries_read(group_id: int, first_id: int, last_id: int, count: int) -> int:
    """How far a group is whose form, of before Redis 7.0, does not say it; see StreamValue.distance."""
    if count == 0 or group_id == last_id:
        return count
    if group_id > last_id or group_id > first_id:
        return UNKNOWN
    return int(group_id == first_id)


def _read_producers(source: Source) -> None:
    """How Redis 8.6 tells repeated messages by their ids: its settings and counts go, the ids must not be there."""
    source.length()  # how long ids are kept
    source.length()  # and how many
    if source.length():
        raise Unkept("a stream with message ids to tell repeats by (Redis 8.6), type 26 of the format")
    source.length()  # ids added so far
    source.length()  # and met again


def _read_id(source: Source) -> int:
    ms, seq = source.length(), source.length()
    return ms << 64 | seq


def _read_entries(base: int, data: bytes, key: bytes, newest: int, events: list[list[bytes]]) -> int:
    """The XADD of each entry of a node; returns the highest id so far."""
    items = listpack.read(data)
    try:
        left, gone, shared = int(items[0]), int(items[1]), int(items[2])
        at = 3 + shared + 1
        names = items[3 : 3 + shared]
        if shared < 0 or len(items) < at or items[at - 1] != b"0":
            raise BadRdb("a stream's node without its fields")
        while at < len(items):
            flags = int(items[at])
            ms = ((base >> 64) + int(items[at + 1])) & MASK64
            eid = ms << 64 | ((base & SEQ_MAX) + int(items[at + 2])) & MASK64
            at += 3
            event = [b"XADD", key, id_text(eid)]
            if flags & SAME_FIELDS:
                values = items[at : at + shared]
                for i in range(len(values)):
                    event.append(names[i])
                    event.append(values[i])
                at += shared
                expected = 3 + 2 * shared
            else:
                count = int(items[at])
                event += items[at + 1 : at + 1 + 2 * count]
                at += 1 + 2 * count
                expected = 3 + 2 * count
            at += 1  # the number of elements, to be read backwards
            if len(event) != expected or at > len(items) or expected == 3:
                raise BadRdb("an entry of a stream that is not whole")
            if flags & DELETED:
                gone -= 1
                continue
            if eid <= newest:
                raise BadRdb("entries of a stream out of order")
            newest = eid
            left -= 1
            events.append(event)
    except (IndexError, ValueError) as error:
        raise error if isinstance(error, BadRdb) else BadRdb("a stream's node is damaged") from error
    if left or gone:
        raise BadRdb("a stream's node of another number of entries than it says")
    return newest


def _read_group(source: Source, kind: int, key: bytes, name: bytes, events: list[list[bytes]]) -> None:
    """What waits in a group, and for whom."""
    waiting: dict[bytes, tuple[int, int]] = {}
    for _ in range(source.length()):
        raw = source.take(16)
        if raw in waiting:
            raise BadRdb("an entry that waits twice in a group")
        at_ms, count = source.int64(), source.length()
        waiting[raw] = (at_ms, count)
    names: set[bytes] = set()
    for _ in range(source.length()):
        consumer = _Consumer(source.string(), source.int64(), NEVER)
        if consumer.name in names:
            raise BadRdb("a consumer that comes twice")
        names.add(consumer.name)
        consumer.active_ms = source.int64() if kind >= codes.STREAM_LISTPACKS_3 else consumer.seen_ms
        _read_waiting(source, key, name, consumer, waiting, events)
    if waiting:
        raise BadRdb("an entry that waits for no consumer of its group")


def _read_waiting(
    source: Source, key: bytes, name: bytes, consumer: _Consumer, waiting: dict[bytes, tuple[int, int]],
    events: list[list[bytes]],
) -> None:  # fmt: skip
    """The XCLAIMs that give a consumer what waits for it; without any id, one that only says when it was active."""
    active = b"%d" % consumer.active_ms
    event: list[bytes] = []
    before = (-1, -1)
    if consumer.active_ms != NEVER:
        event = [b"XCLAIM", key, name, consumer.name, active, b"0", b"0"]
        events.append(event)
    for _ in range(source.length()):
        raw = source.take(16)
        nack = waiting.pop(raw, None)
        if nack is None:
            raise BadRdb("an entry that waits for a consumer and not in its group")
        if nack != before or len(event) > PENDING_MAX:
            event = [b"XCLAIM", key, name, consumer.name, active, b"%d" % nack[0], b"%d" % nack[1]]
            events.append(event)
            before = nack
        event.append(id_text(int.from_bytes(raw, "big")))
    events.append([b"XGROUP", b"CREATECONSUMER", key, name, consumer.name, b"SEEN", b"%d" % consumer.seen_ms])


# -- writing


def write_stream(value: StreamValue, out: Out) -> None:
    """A value of type 19, after its type and key."""
    out.length(len(value.blocks))
    for block in value.blocks:
        _write_block(block, out)
        out.flush_if_large()
    out.length(value.length)
    _write_id(value.last_id, out)
    _write_id(value.first_id(), out)
    _write_id(value.max_deleted, out)
    out.length(value.entries_added)
    out.length(len(value.groups))
    for name, group in value.groups.items():
        out.string(name)
        _write_group(group, out)


def activity(value: StreamValue) -> list[bytes]:
    """Group, consumer, and both its times, of those that were last given an entry at another time than they asked."""
    found: list[bytes] = []
    for name, group in value.groups.items():
        for consumer in group.consumers.values():
            if consumer.active_ms != consumer.seen_ms:
                found += [name, consumer.name, b"%d" % consumer.active_ms, b"%d" % consumer.seen_ms]
    return found


def read_activity(data: bytes, key: bytes, events: list[list[bytes]]) -> list[list[bytes]]:
    """The events that give the consumers of a stream, which `events` make, their times. Raises BadRdb."""
    flat = listpack.read(data)
    made = {(event[3], event[4]) for event in events if event[:2] == [b"XGROUP", b"CREATECONSUMER"]}
    found: list[list[bytes]] = []
    for i in range(0, len(flat), 4):
        name, consumer, active, seen = flat[i : i + 4]
        if (name, consumer) not in made or int(active) < NEVER:
            raise BadRdb("times of a consumer that is not there")
        found.append([b"XCLAIM", key, name, consumer, active, b"0", b"0"])
        found.append([b"XGROUP", b"CREATECONSUMER", key, name, consumer, b"SEEN", b"%d" % int(seen)])
    return found


def _write_id(eid: int, out: Out) -> None:
    out.length(eid >> 64)
    out.length(eid & SEQ_MAX)


def _write_block(block: Block, out: Out) -> None:
    reader = hiredis.Reader()
    reader.feed(b"*%d\r\n" % block.count())
    reader.feed(bytes(block.data[block.begin(block.head) :]))
    entries: list[list[object]] = reader.gets()
    base = block.id_at(block.head)
    first = entries[0][1]
    assert isinstance(first, list)
    names: list[bytes] = first[::2]
    pack = listpack.ListpackWriter()
    pack.integer(len(entries))
    pack.integer(0)
    pack.integer(len(names))
    for name in names:
        pack.string(name)
    pack.integer(0)
    for i in range(len(entries)):
        flat = entries[i][1]
        assert isinstance(flat, list)
        eid = block.id_at(block.head + i)
        same: bool = flat[::2] == names
        pack.integer(SAME_FIELDS if same else 0)
        pack.integer((eid >> 64) - (base >> 64))
        pack.integer(_signed((eid & SEQ_MAX) - (base & SEQ_MAX)))
        if same:
            for value in flat[1::2]:
                pack.string(value)
            pack.integer(len(names) + 3)
        else:
            pack.integer(len(flat) // 2)
            for part in flat:
                pack.string(part)
            pack.integer(len(flat) + 4)
    out.string(base.to_bytes(16, "big"))
    out.string(pack.made())


def _signed(number: int) -> int:
    """The same in 64 bits, of which the highest is the sign."""
    number &= MASK64
    return number - (1 << 64) if number >> 63 else number


def _write_group(group: Group, out: Out) -> None:
    _write_id(group.last_id, out)
    out.length(group.entries_read & MASK64)
    ids = group.pending.ids(0, (1 << 128) - 1, -1)
    out.length(len(ids))
    for eid in ids:
        nack = group.pending.nacks[eid]
        out.raw(eid.to_bytes(16, "big") + nack.at_ms.to_bytes(8, "little", signed=True))
        out.length(nack.count)
    out.length(len(group.consumers))
    for name, consumer in group.consumers.items():
        out.string(name)
        out.raw(consumer.seen_ms.to_bytes(8, "little", signed=True))
        ids = consumer.pending.ids(0, (1 << 128) - 1, -1)
        out.length(len(ids))
        for eid in ids:
            out.raw(eid.to_bytes(16, "big"))
        out.flush_if_large()
