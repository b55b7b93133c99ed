"""StreamValue and Pending against plain lists and dicts."""

from __future__ import annotations

import random

from eventdb.keyspace.types.pending import Consumer, Nack, Pending
from eventdb.keyspace.types.stream import ID_MAX, StreamValue, id_text
from eventdb.keyspace.value import Limits
from eventdb.protocol.replies import bulks

LIMITS = Limits()


def encoded(eid: int) -> bytes:
    text = id_text(eid)
    return b"*2\r\n$%d\r\n%b\r\n%b" % (len(text), text, bulks([b"f", text]))


def test_blocks_are_a_list_of_entries() -> None:
    rng = random.Random(5)
    value, model, last = StreamValue(), list[int](), 0
    for step in range(6000):
        what = rng.random()
        if what < 0.75 or not model:
            last += rng.choice([1, 1, 1, 1 << 64, (1 << 64) + 3])
            value.add(last, id_text(last), bulks([b"f", id_text(last)]), LIMITS)
            model.append(last)
        elif what < 0.97:
            eid = rng.choice(model) + rng.choice([0, 0, 1])
            assert value.delete(eid) == (eid in model)
            if eid in model:
                model.remove(eid)
        else:
            left = max(0, len(model) - rng.randrange(150))
            value.trim(left)
            model = model[len(model) - left :]
        if step % 50 == 0:
            a, b = sorted((rng.randrange(last + 2), rng.choice([rng.randrange(last + 2), ID_MAX])))
            count = rng.choice([0, 1, 7, 1000])
            inside = [eid for eid in model if a <= eid <= b]
            ends = inside[: count or None], inside[::-1][: count or None]
            assert value.range(a, b, count) == (len(ends[0]), b"".join(map(encoded, ends[0])))
            assert value.reverse(a, b, count) == (len(ends[1]), b"".join(map(encoded, ends[1])))
            later = [eid for eid in model if eid > a][: count or None]
            assert value.after(a, count) == (later, b"".join(map(encoded, later)))
            assert (value.length, value.first_id(), value.newest_id()) == (
                len(model), *((model[0], model[-1]) if model else (0, 0)),
            )  # fmt: skip
            copied = value.copy()
            assert copied.digest() == value.digest() and copied.range(0, ID_MAX, 0) == value.range(0, ID_MAX, 0)
            assert value.beyond(len(model) // 2, False, 0) == len(model) - len(model) // 2
            assert value.below(a, False, 0) == sum(eid < a for eid in model)
            assert value.below(a, True, 0) <= value.below(a, False, 0)
            assert value.below(ID_MAX, True, 200) <= 200


def test_blocks_end_where_the_limits_say() -> None:
    limits = Limits()
    for entries, size, blocks in ((3, 4096, 4), (0, 4096, 1), (100, 1, 10), (100, 80, 3), (0, 0, 1), (0, 1 << 40, 1)):
        limits.stream_entries, limits.stream_bytes = entries, size
        value = StreamValue()
        for n in range(1, 11):
            value.add(n, id_text(n), bulks([b"f", b"v" * 20]), limits)
        assert len(value.blocks) == blocks, (entries, size)
    for n in range(11, 31):
        value.add(n, id_text(n), bulks([b"f", b"v" * 100_000]), limits)
    assert len(value.blocks) == 2, "a block has a bound whatever the settings say"


def test_a_copy_and_its_original_change_apart() -> None:
    value = StreamValue()
    for n in range(1, 250):
        value.add(n, id_text(n), bulks([b"f", b"v"]), LIMITS)
    copied = value.copy()
    digest = value.digest()
    copied.delete(7)
    copied.trim(100)
    copied.add(300, id_text(300), bulks([b"f", b"v"]), LIMITS)
    assert value.digest() == digest != copied.digest()


def test_pending_keeps_order_however_entries_come_and_go() -> None:
    rng = random.Random(6)
    pending, model = Pending(), dict[int, int]()
    owner = Consumer(b"c", 0, 0)
    for step in range(5000):
        eid = rng.randrange(400)
        if eid in model:
            pending.remove(eid)
            del model[eid]
        else:
            pending.add(eid, Nack(owner, step, 1))
            model[eid] = step
        if step % 20 == 0:
            a, b, count = rng.randrange(400), rng.randrange(400), rng.choice([-1, 3])
            ordered = sorted(model)
            assert pending.ids(a, b, count) == [eid for eid in ordered if a <= eid <= b][: count if count > 0 else None]
            assert pending.first() == (ordered[0] if ordered else -1)
            assert pending.last() == (ordered[-1] if ordered else -1)
            assert len(pending.order) <= 2 * len(model) + 65
