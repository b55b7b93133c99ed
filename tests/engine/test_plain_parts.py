"""What plain_ranks.h and plain_parts.h do themselves is what the handlers do: ranks, elements, bits, HyperLogLogs."""

from __future__ import annotations

import random
import time

import pytest

from eventdb.keyspace.types.hyperloglog import DENSE, ENCODING_AT
from eventdb.keyspace.types.zset import ZSetValue
from tests.kit.plain_pair import NOW, Pair, Run, find_run
from tests.kit.plain_run import encode


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return find_run(tmp_path_factory)


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW[0])


def without_handlers(pair: Pair, names: tuple[bytes, ...]) -> None:
    """What is left to them ends the run there, so that a test can tell."""
    handlers = pair.quick.plain.handling[0]
    for kind, command in enumerate(pair.quick.plain.commands):
        if command.name.upper().encode() in names:
            handlers[kind] = None


def ranked_pair(run: Run, rng: random.Random, members: int, scores: int) -> Pair:
    pair = Pair(run)
    for start in range(0, members, 1000):
        words = [word for i in range(start, start + 1000) for word in (b"%d" % rng.randrange(scores), b"m%d" % i)]
        pair.feed(0, encode(b"ZADD", b"z", *words))
    pair.feed(0, encode(b"ZRANK", b"z", b"m0") + encode(b"ZREVRANGE", b"z", b"0", b"0"))  # makes the ranking
    for side in (pair.quick, pair.slow):
        value = side.engine.store.keyspace.dbs[0].values[b"z"]
        assert isinstance(value, ZSetValue)
        value.ranked()._counted()
    pair.turn()
    return pair


RANKS = (b"ZRANK", b"ZREVRANK", b"ZCOUNT", b"ZREVRANGE", b"ZRANGEBYSCORE", b"ZREVRANGEBYSCORE")


@pytest.mark.parametrize(("members", "scores"), [(1000, 30), (20_000, 40), (20_000, 1 << 40)])
def test_ranks_are_those_of_the_handlers(run: Run, members: int, scores: int) -> None:
    """Many members with one score, over several blocks, and more blocks than a group has."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    pair = ranked_pair(run, rng, members, scores)
    without_handlers(pair, RANKS)
    queries: list[tuple[bytes, ...]] = []
    for _ in range(150):
        member = b"m%d" % rng.randrange(members + 10)
        low, high = sorted([rng.randrange(-1, scores + 1), rng.randrange(-1, scores + 1)])
        bounds = [rng.choice([b"%d", b"(%d", b"%d.5", b"(%d.0", b"%de0"]) % bound for bound in (low, high)]
        bounds = [rng.choice([bound] * 5 + [b"-inf", b"+inf", b"inf", b"(inf"]) for bound in bounds]
        limit = b"%d" % rng.randrange(members + 5), b"%d" % rng.randrange(900)
        first = rng.randrange(-members - 5, members + 5)
        queries += [
            (rng.choice([b"ZRANK", b"zrevrank"]), b"z", member),
            (b"ZCOUNT", b"z", *bounds),
            (b"ZRANGEBYSCORE", b"z", *bounds, b"limit", *limit),
            (b"ZREVRANGEBYSCORE", b"z", *reversed(bounds), b"LIMIT", *limit),
            (rng.choice([b"ZRANGE", b"ZREVRANGE"]), b"z", b"%d" % first, b"%d" % (first + rng.randrange(900))),
        ]
    for query in queries:
        before = pair.quick.ran
        pair.feed(0, encode(*query))
        assert pair.quick.ran == before + 1, (seed, query)
    pair.finish()


def test_ranks_after_changes(run: Run) -> None:
    """Blocks that were split, joined and emptied; their groups are counted by a handler, and then used."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    pair = ranked_pair(run, rng, 14_000, 500)
    for _ in range(60):
        changes = [encode(b"ZADD", b"z", b"%d" % rng.randrange(600), b"m%d" % rng.randrange(15_000)) for _ in range(40)]
        changes += [encode(b"ZREM", b"z", b"m%d" % rng.randrange(15_000)) for _ in range(60)]
        reads = [encode(rng.choice(RANKS[:2]), b"z", b"m%d" % rng.randrange(15_000)) for _ in range(10)]
        reads.append(encode(b"ZREVRANGE", b"z", b"2", b"500") + encode(b"ZCOUNT", b"z", b"100", b"(200"))
        pair.feed(0, b"".join(changes) + b"".join(reads))
        pair.turn()
    pair.finish()


def test_odd_bounds_are_for_the_handler(run: Run) -> None:
    pair = ranked_pair(run, random.Random(1), 1000, 30)
    odd = [
        b"",
        b"(",
        b"nan",
        b"infinity",
        b" 1",
        b"1 ",
        b"1_0",
        b"0x10",
        b"1\x00",
        b"--1",
        b"e",
        b".",
        b"1" * 60,
        b"+-1",
    ]
    for bound in odd:
        pair.feed(0, encode(b"ZCOUNT", b"z", bound, b"20") + encode(b"ZRANGEBYSCORE", b"z", b"0", bound))
    for words in ((b"LIMIT", b"-1", b"2"), (b"LIMIT", b"x", b"2"), (b"LIMITS", b"1", b"2"), (b"WITHSCORES",)):
        pair.feed(0, encode(b"ZRANGEBYSCORE", b"z", b"0", b"9", *words))
    pair.finish()


def test_bits_are_those_of_the_handler(run: Run) -> None:
    """In place, with a change and without; past the end; of text, which is no bytearray yet; at the setting's end."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    pair = Pair(run)
    pair.feed(0, encode(b"SETBIT", b"bits", b"799", b"1") + encode(b"SET", b"text", b"some text"))
    pair.feed(0, encode(b"CONFIG", b"SET", b"proto-max-bulk-len", b"1048576"))
    for _ in range(80):
        stream = []
        for _ in range(rng.randrange(1, 12)):
            key = rng.choice([b"bits", b"bits", b"text", b"none"])
            offset = rng.choice([b"%d" % rng.randrange(900), b"%d" % rng.randrange(900), b"8388607", b"8388608", b"-1"])
            bit = rng.choice([b"0", b"1", b"1", b"2"])
            stream.append(encode(b"SETBIT", key, offset, bit) if rng.random() < 0.6 else encode(b"GETBIT", key, offset))
        pair.feed(0, b"".join(stream))
        if rng.random() < 0.4:
            pair.turn()
        if rng.random() < 0.1:
            pair.feed(0, encode(b"PEXPIRE", b"bits", b"100000") + encode(b"DEL", b"none"))
            pair.feed(0, encode(b"SET", b"text", b"other text"))
        if rng.random() < 0.1:
            pair.feed(0, encode(b"PERSIST", b"bits"))
    pair.finish()
    pair.feed(0, encode(b"PERSIST", b"bits"))
    pair.finish()
    without_handlers(pair, (b"SETBIT",))
    before = pair.quick.ran
    pair.feed(0, encode(b"SETBIT", b"bits", b"5", b"1") + encode(b"SETBIT", b"bits", b"5", b"0") * 2)
    assert pair.quick.ran == before + 3, seed
    pair.finish()


@pytest.mark.parametrize("sparse_bytes", [0, 3000])
def test_hyperloglogs_are_those_of_the_handler(run: Run, sparse_bytes: int) -> None:
    """Elements of every length, in both encodings; one that is damaged, and strings that are none."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    pair = Pair(run)
    pair.feed(0, encode(b"CONFIG", b"SET", b"hll-sparse-max-bytes", b"%d" % sparse_bytes))
    elements = [rng.randbytes(size) for size in range(40) for _ in range(8)]
    for start in range(0, len(elements), 40):
        pair.feed(0, encode(b"PFADD", b"hll", *elements[start : start + 40]))
    value = pair.quick.engine.store.keyspace.dbs[0].values[b"hll"]
    assert isinstance(value, (bytes, bytearray)) and (value[ENCODING_AT] == DENSE) == (sparse_bytes == 0)
    for _ in range(200):
        known = rng.choices(elements, k=rng.randrange(1, 4))
        pair.feed(0, encode(b"PFADD", b"hll", *known, *[rng.randbytes(9)] * (rng.random() < 0.3)))
    pair.turn()
    without_handlers(pair, (b"PFADD",))
    before = pair.quick.ran
    pair.feed(0, b"".join([encode(b"PFADD", b"hll", element) for element in elements]))
    assert pair.quick.ran == before + len(elements), seed
    pair.feed(0, encode(b"SET", b"text", b"HYLL") + encode(b"PFADD", b"text", b"a"))
    for end in (b"", b"\x7f", b"\x7f\xff", b"\x80", b"\x40", b"\x7f\xff\x00"):
        pair.feed(0, encode(b"SET", b"odd", b"HYLL\x01" + bytes(11) + end) + encode(b"PFADD", b"odd", b"a", b"b"))
    pair.feed(0, encode(b"SET", b"odd", b"HYLL\x00" + bytes(11)) + encode(b"PFADD", b"odd", b"a"))
    pair.finish()


def test_elements_and_fields_are_those_of_the_handlers(run: Run) -> None:
    """Both halves of a list, from both ends; fields that are there and that are not."""
    pair = Pair(run)
    pair.feed(
        0, encode(b"RPUSH", b"l", b"a", b"b", b"c") + encode(b"LPUSH", b"l", b"x", b"y") + encode(b"SET", b"s", b"1")
    )
    pair.feed(0, encode(b"HSET", b"h", b"f", b"1", b"g", b"2"))
    pair.turn()
    for index in [b"%d" % i for i in range(-7, 8)] + [
        b"-0",
        b"x",
        b"01",
        b"9223372036854775807",
        b"-9223372036854775808",
    ]:
        for key in (b"l", b"s", b"none"):
            pair.feed(0, encode(b"LINDEX", key, index) + encode(b"LSET", key, index, b"<%b>" % index))
            pair.feed(0, encode(b"LINDEX", key, index) + encode(b"LRANGE", key, b"0", b"-1"))
    for version in (b"2", b"3"):
        pair.feed(
            0, encode(b"HELLO", version) + encode(b"HMGET", b"h", b"g", b"?", b"f") + encode(b"HMGET", b"?", b"f")
        )
        pair.feed(0, encode(b"LINDEX", b"none", b"0") + encode(b"ZRANK", b"none", b"m"))
    pair.finish()
    without_handlers(pair, (b"LSET", b"LINDEX", b"HMGET"))
    before = pair.quick.ran
    pair.feed(0, encode(b"LSET", b"l", b"1", b"new") + encode(b"LINDEX", b"l", b"-4") + encode(b"HMGET", b"h", b"f"))
    assert pair.quick.ran == before + 3
    pair.finish()


def test_keys_of_every_kind(run: Run) -> None:
    """Of another type, missing, past their deadline or with one, and changed by a batch that is under way."""
    commands: list[tuple[bytes, ...]] = [
        (b"ZRANK", b"a"), (b"ZREVRANK", b"a"), (b"ZCOUNT", b"0", b"9"), (b"ZREVRANGE", b"0", b"5"),
        (b"ZRANGEBYSCORE", b"0", b"9"), (b"ZREVRANGEBYSCORE", b"9", b"0"), (b"LINDEX", b"0"), (b"LSET", b"0", b"new"),
        (b"HMGET", b"a", b"b"), (b"GETBIT", b"1"), (b"SETBIT", b"1", b"0"), (b"SETBIT", b"1", b"1"), (b"PFADD", b"a"),
    ]  # fmt: skip
    made: dict[bytes, tuple[bytes, ...]] = {
        b"string": (b"SET", b"x"), b"bits": (b"SETBIT", b"9", b"1"), b"hash": (b"HSET", b"a", b"1"),
        b"list": (b"RPUSH", b"a"), b"set": (b"SADD", b"a"), b"zset": (b"ZADD", b"1", b"a"), b"hll": (b"PFADD", b"a"),
        b"stream": (b"XADD", b"1-1", b"a", b"b"), b"missing": (b"DEL",),
    }  # fmt: skip
    pair = Pair(run)
    for deadline in (None, b"5", b"500000"):
        for key, (name, *rest) in made.items():
            for command in commands:
                stream = encode(b"DEL", key) + encode(name, key, *rest) + encode(b"ZRANGEBYSCORE", b"zset", b"0", b"1")
                if deadline is not None:
                    stream += encode(b"PEXPIRE", key, deadline)
                pair.feed(0, stream)
                pair.feed(1, encode(command[0], key, *command[1:]) * 2)
                pair.turn()
                NOW[0] += 0.01
                pair.feed(0, encode(command[0], key, *command[1:]) * 2)
                pair.feed(0, encode(b"PERSIST", key))
    pair.finish()
