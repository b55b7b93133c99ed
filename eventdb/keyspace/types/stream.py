"""Streams: StreamValue and its events XADD, XDEL, XTRIM, XSETID, XGROUP, XREADGROUP, XCLAIM and XACK.

Events have explicit ids, absolute times and exact counts: `XADD k * f v` is logged with the id that it made, a trim as
the number of entries that it left. A delivery is one event, `XREADGROUP key group consumer ms count NEW`: which entries
it was follows from the group's last id, so thousands of entries cost no more than one.

An entry is kept as the reply that XRANGE gives for it (the same in RESP2 and RESP3), entries are kept in blocks: so a
range is a slice of bytes. Encoding and counting rules: redis src/t_stream.c.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from eventdb.keyspace.databases import Db
from eventdb.keyspace.events import KEY_SECOND, event
from eventdb.keyspace.types.pending import UNKNOWN, Group
from eventdb.keyspace.value import Limits, Value, digest_of
from eventdb.protocol.replies import bulks

ID_MAX: Final = (1 << 128) - 1
SEQ_MAX: Final = (1 << 64) - 1
BYTES_FACTOR: Final = 2  # an entry as a reply is about twice as long as in Redis's nodes, for which the setting is
BLOCK_BYTES_MAX: Final = 1 << 20  # whatever the settings say: a deletion moves what is after it in its block


def id_text(eid: int) -> bytes:
    return b"%d-%d" % (eid >> 64, eid & SEQ_MAX)


def read_id(text: bytes) -> int:
    """An id as events carry it: ms-seq."""
    ms, _, seq = text.partition(b"-")
    return int(ms) << 64 | int(seq)


class Block:
    """Entries that follow each other. Those before `head` were trimmed."""

    def __init__(self) -> None:
        self.head = 0
        self.newest = 0  # the highest id that was ever added, deleted or not: `MINID ~` goes by it
        self.born = 0  # entries that were ever added: deleted ones count, as in Redis, so that blocks do not grow
        self.ms = array("Q")
        self.seqs = array("Q")
        self.ends = array("Q")  # where each entry ends in `data`
        self.data = bytearray()

    def count(self) -> int:
        return len(self.ms) - self.head

    def id_at(self, i: int) -> int:
        ms: int = self.ms[i]
        seq: int = self.seqs[i]
        return ms << 64 | seq

    def begin(self, i: int) -> int:
        """Where entry i begins in `data`."""
        if i == 0:
            return 0
        end: int = self.ends[i - 1]
        return end

    def place(self, eid: int) -> int:
        """The index of the first entry whose id is not below `id`."""
        ms = eid >> 64
        low = bisect_left(self.ms, ms, self.head)
        if low == len(self.ms) or self.ms[low] != ms:
            return low
        return bisect_left(self.seqs, eid & SEQ_MAX, low, bisect_right(self.ms, ms, low))

    def remove(self, i: int) -> None:
        start, stop = self.begin(i), self.begin(i + 1)
        del self.data[start:stop]
        self.ms.pop(i)
        self.seqs.pop(i)
        self.ends.pop(i)
        for j in range(i, len(self.ends)):
            self.ends[j] -= stop - start

    def copy(self) -> Block:
        made = Block()
        made.head, made.newest, made.born = self.head, self.newest, self.born
        made.ms, made.seqs, made.ends, made.data = self.ms[:], self.seqs[:], self.ends[:], self.data[:]
        return made


class StreamValue(Value):
    """Entries in the order of their ids, and consumer groups."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.firsts: list[int] = []  # of each block, the id it began with
        self.length = 0
        self.last_id = 0
        self.entries_added = 0
        self.max_deleted = 0
        self.groups: dict[bytes, Group] = {}

    def type_name(self) -> bytes:
        return b"stream"

    def encoding(self, limits: Limits) -> bytes:
        return b"stream"

    def size(self) -> int:
        return self.length

    def copy(self) -> StreamValue:
        made = StreamValue()
        made.blocks = [block.copy() for block in self.blocks]
        made.firsts = list(self.firsts)
        made.length, made.last_id = self.length, self.last_id
        made.entries_added, made.max_deleted = self.entries_added, self.max_deleted
        for name, group in self.groups.items():
            made.groups[name] = group.copy()
        return made

    def digest(self) -> int:
        """Blocks do not count: which entries share one is nobody's business."""
        parts = [b"%d %d %d %d" % (self.length, self.last_id, self.entries_added, self.max_deleted)]
        for block in self.blocks:
            for i in range(block.head, len(block.ms)):
                parts.append(bytes(block.data[block.begin(i) : block.begin(i + 1)]))
        for name in sorted(self.groups):
            parts.append(name)
            parts += self.groups[name].parts()
        return digest_of(parts)

    # -- entries

    def first_id(self) -> int:
        """The id of the oldest entry, 0 when there is none."""
        return self.blocks[0].id_at(self.blocks[0].head) if self.blocks else 0

    def newest_id(self) -> int:
        """The id of the newest entry that exists, 0 when there is none."""
        return self.blocks[-1].id_at(len(self.blocks[-1].ms) - 1) if self.blocks else 0

    def nth_id(self, n: int) -> int:
        """The id of the entry that has n before it."""
        for block in self.blocks:
            if n < block.count():
                return block.id_at(block.head + n)
            n -= block.count()
        raise IndexError(n)

    def add(self, eid: int, text: bytes, fields: bytes, limits: Limits) -> None:
        """Append an entry: `text` is its id, `fields` an encoded array; the limits say when a block is full."""
        block = self.blocks[-1] if self.blocks else None
        if block is None or 0 < limits.stream_entries <= block.born or len(block.data) >= block_bytes(limits):
            block = Block()
            self.blocks.append(block)
            self.firsts.append(eid)
        block.born += 1
        block.newest = eid
        block.ms.append(eid >> 64)
        block.seqs.append(eid & SEQ_MAX)
        data = block.data
        data += b"*2\r\n$%d\r\n%b\r\n" % (len(text), text)
        data += fields
        block.ends.append(len(data))
        self.length += 1
        self.entries_added += 1
        self.last_id = eid

    def place(self, eid: int) -> tuple[int, int]:
        """Block and index of the first entry whose id is not below `id`; the block may be one past the last."""
        b = max(0, bisect_right(self.firsts, eid) - 1)
        if b < len(self.blocks):
            i = self.blocks[b].place(eid)
            if i < len(self.blocks[b].ms):
                return b, i
            b += 1
            if b < len(self.blocks):
                return b, self.blocks[b].head
        return b, 0

    def has(self, eid: int) -> bool:
        b, i = self.place(eid)
        return b < len(self.blocks) and self.blocks[b].id_at(i) == eid

    def entry(self, eid: int) -> bytes | None:
        """The encoded entry with this id, or None."""
        b, i = self.place(eid)
        if b == len(self.blocks) or self.blocks[b].id_at(i) != eid:
            return None
        block = self.blocks[b]
        return bytes(block.data[block.begin(i) : block.begin(i + 1)])

    def after(self, eid: int, count: int) -> tuple[list[int], bytes]:
        """Up to `count` entries after `eid` (0: all): their ids, and the entries, encoded."""
        found: list[int] = []
        parts: list[bytes] = []
        if eid >= ID_MAX:
            return found, b""
        b, i = self.place(eid + 1)
        while b < len(self.blocks):
            block = self.blocks[b]
            stop = len(block.ms)
            if count and stop - i > count - len(found):
                stop = i + count - len(found)
            parts.append(bytes(block.data[block.begin(i) : block.begin(stop)]))
            while i < stop:
                found.append(block.id_at(i))
                i += 1
            b += 1
            if len(found) == count or b == len(self.blocks):
                break
            i = self.blocks[b].head
        return found, parts[0] if len(parts) == 1 else b"".join(parts)

    def range(self, start: int, end: int, count: int) -> tuple[int, bytes]:
        """How many entries there are between two ids, `count` at most (0: all), and the entries, encoded."""
        parts: list[bytes] = []
        total = 0
        b, i = self.place(start)
        while b < len(self.blocks):
            block = self.blocks[b]
            stop = len(block.ms) if block.id_at(len(block.ms) - 1) <= end else bisect_id(block, end)
            if count and stop - i > count - total:
                stop = i + count - total
            if stop <= i:
                break
            parts.append(bytes(block.data[block.begin(i) : block.begin(stop)]))
            total += stop - i
            if stop < len(block.ms) or total == count:
                break
            b += 1
            i = self.blocks[b].head if b < len(self.blocks) else 0
        return total, b"".join(parts)

    def reverse(self, start: int, end: int, count: int) -> tuple[int, bytes]:
        """As `range`, from the end to the start."""
        parts: list[bytes] = []
        b = min(bisect_right(self.firsts, end), len(self.blocks)) - 1
        while b >= 0:
            block = self.blocks[b]
            i = bisect_id(block, end) - 1
            while i >= block.head:
                if block.id_at(i) < start or (count and len(parts) == count):
                    return len(parts), b"".join(parts)
                parts.append(bytes(block.data[block.begin(i) : block.begin(i + 1)]))
                i -= 1
            b -= 1
        return len(parts), b"".join(parts)

    def delete(self, eid: int) -> bool:
        """Remove an entry; False when it is not there."""
        b, i = self.place(eid)
        if b == len(self.blocks) or self.blocks[b].id_at(i) != eid:
            return False
        block = self.blocks[b]
        if block.count() == 1:
            del self.blocks[b]
            del self.firsts[b]
        else:
            block.remove(i)
        self.length -= 1
        self.max_deleted = max(self.max_deleted, eid)
        return True

    def beyond(self, length_max: int, whole: bool, limit: int) -> int:
        """How many entries MAXLEN takes; `whole`: only whole blocks (~), `limit` entries at most (0: any number)."""
        extra = self.length - length_max
        if not whole:
            return max(0, extra)
        found = 0
        for block in self.blocks:
            n = block.count()
            if found + n > extra or (limit and found + n > limit):
                break
            found += n
        return found

    def below(self, eid: int, whole: bool, limit: int) -> int:
        """How many entries MINID takes; see `beyond`."""
        found = 0
        for block in self.blocks:
            n = block.count()
            if limit and found + n > limit:
                break
            if block.newest >= eid:
                if not whole:
                    found += block.place(eid) - block.head
                break
            found += n
        return found

    def trim(self, left: int) -> None:
        """Remove the oldest entries but for `left`."""
        extra = self.length - left
        whole = 0
        while extra > 0:
            block = self.blocks[whole]
            n = block.count()
            if n > extra:
                block.head += extra
                self.length -= extra
                break
            whole += 1
            extra -= n
            self.length -= n
        if whole:
            del self.blocks[:whole]
            del self.firsts[:whole]

    # -- how far a group is

    def has_gaps(self, start: int) -> bool:
        """True when an entry from `start` on may have been deleted."""
        return self.length > 0 and self.max_deleted > 0 and start <= self.max_deleted

    def distance(self, eid: int) -> int:
        """How many entries were ever added up to this one; UNKNOWN when deletions hide it."""
        if self.entries_added == 0:
            return 0
        if (self.length == 0 and eid <= self.last_id) or eid == self.last_id:
            return self.entries_added
        if eid > self.last_id:
            return UNKNOWN
        first = self.first_id()
        if self.max_deleted == 0 or self.max_deleted < first:
            if eid < first:
                return self.entries_added - self.length
            if eid == first:
                return self.entries_added - self.length + 1
        return UNKNOWN

    def lag(self, group: Group) -> int | None:
        """Entries that the group has yet to read; None when it cannot be known."""
        if self.entries_added == 0:
            return 0
        read = group.entries_read
        if read == UNKNOWN or self.has_gaps(group.last_id):
            read = self.distance(group.last_id)
        return None if read == UNKNOWN else self.entries_added - read

    def give(self, group: Group, name: bytes, ids: list[int], at_ms: int, waits: bool) -> None:
        """The group's next entries, `ids`, go to the consumer; `waits`: until they are acknowledged."""
        consumer = group.made(name)
        consumer.seen_ms = at_ms
        if waits:
            consumer.active_ms = at_ms
        for eid in ids:
            if waits:
                group.assign(eid, consumer, at_ms, 1)
            if group.entries_read != UNKNOWN and not self.has_gaps(eid):
                group.entries_read += 1
            elif self.entries_added:
                group.entries_read = self.distance(eid)
            group.last_id = eid


def block_bytes(limits: Limits) -> int:
    """The length from which on a block is full."""
    size = BYTES_FACTOR * limits.stream_bytes
    return size if 0 < size < BLOCK_BYTES_MAX else BLOCK_BYTES_MAX


def bisect_id(block: Block, eid: int) -> int:
    """The index after the last entry whose id is not above `id`."""
    return len(block.ms) if eid >= ID_MAX else block.place(eid + 1)


def stream_at(db: Db, key: bytes) -> StreamValue:
    value = db.values[key]
    assert isinstance(value, StreamValue)
    return value


@event(b"XADD")
def apply_xadd(db: Db, argv: list[bytes]) -> None:
    """XADD key id field value [field value …]; the first one makes the stream."""
    value = db.values.get(argv[1])
    if value is None:
        value = StreamValue()
        db.put(argv[1], value)
    assert isinstance(value, StreamValue)
    text = argv[2]
    value.add(read_id(text), text, bulks(argv[3:]), db.keyspace.limits)


@event(b"XDEL")
def apply_xdel(db: Db, argv: list[bytes]) -> None:
    """XDEL key id [id …], entries that exist."""
    value = stream_at(db, argv[1])
    for i in range(2, len(argv)):
        value.delete(read_id(argv[i]))


@event(b"XTRIM")
def apply_xtrim(db: Db, argv: list[bytes]) -> None:
    """XTRIM key MAXLEN count."""
    stream_at(db, argv[1]).trim(int(argv[3]))


@event(b"XSETID")
def apply_xsetid(db: Db, argv: list[bytes]) -> None:
    """XSETID key id ENTRIESADDED n MAXDELETEDID id"""
    value = stream_at(db, argv[1])
    value.last_id = read_id(argv[2])
    value.entries_added = int(argv[4])
    value.max_deleted = read_id(argv[6])


@event(b"XGROUP", KEY_SECOND)
def apply_xgroup(db: Db, argv: list[bytes]) -> None:
    """XGROUP CREATE|SETID key group id ENTRIESREAD n, where CREATE makes a stream that is not there;
    XGROUP DESTROY key group; XGROUP CREATECONSUMER key group consumer SEEN ms, which changes the time of one that is
    there; XGROUP DELCONSUMER key group consumer.
    """
    what, key, name = argv[1], argv[2], argv[3]
    if what == b"CREATE" and key not in db.values:
        db.put(key, StreamValue())
    groups = stream_at(db, key).groups
    if what == b"CREATE":
        groups[name] = Group(read_id(argv[4]), int(argv[6]))
        return
    if what == b"DESTROY":
        del groups[name]
        return
    group = groups[name]
    if what == b"SETID":
        group.last_id, group.entries_read = read_id(argv[4]), int(argv[6])
    elif what == b"CREATECONSUMER":
        group.made(argv[4]).seen_ms = int(argv[6])
    else:
        assert what == b"DELCONSUMER"
        for eid in group.consumers.pop(argv[4]).pending.nacks:
            group.pending.remove(eid)


@event(b"XREADGROUP")
def apply_xreadgroup(db: Db, argv: list[bytes]) -> None:
    """XREADGROUP key group consumer ms count NEW|NOACK: the next `count` entries go to the consumer, which is made if
    it is not there; NOACK: they do not wait for an XACK.
    XREADGROUP key group consumer ms count AFTER id: it gets `count` of its waiting entries again, those after the id.
    """
    value = stream_at(db, argv[1])
    group, at_ms, count = value.groups[argv[2]], int(argv[4]), int(argv[5])
    if argv[6] != b"AFTER":
        ids, _ = value.after(group.last_id, count)
        value.give(group, argv[3], ids, at_ms, argv[6] == b"NEW")
        return
    consumer = group.made(argv[3])
    consumer.seen_ms = at_ms
    for eid in consumer.pending.ids(read_id(argv[7]) + 1, ID_MAX, count):
        if value.has(eid):
            nack = consumer.pending.nacks[eid]
            nack.at_ms = at_ms
            nack.count += 1


@event(b"XCLAIM")
def apply_xclaim(db: Db, argv: list[bytes]) -> None:
    """XCLAIM key group consumer now ms count id [id …]: the entries wait for this consumer, which is made if it is not
    there; they count as delivered at `ms`, for the `count`th time.
    """
    group = stream_at(db, argv[1]).groups[argv[2]]
    consumer, at_ms, count = group.made(argv[3]), int(argv[5]), int(argv[6])
    consumer.seen_ms = consumer.active_ms = int(argv[4])
    for i in range(7, len(argv)):
        group.assign(read_id(argv[i]), consumer, at_ms, count)


@event(b"XACK")
def apply_xack(db: Db, argv: list[bytes]) -> None:
    """XACK key group id [id …], entries that wait."""
    group = stream_at(db, argv[1]).groups[argv[2]]
    for i in range(3, len(argv)):
        group.forget(read_id(argv[i]))
