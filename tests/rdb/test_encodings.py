"""Every encoding that Redis 2.8 to 8 and Valkey wrote is read as the value it stands for; hostile bytes are refused."""

from __future__ import annotations

import struct
from contextlib import closing
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.rdb import codes, payload, values
from eventdb.rdb.codes import BadRdb, Unkept
from eventdb.rdb.crc64 import crc64
from eventdb.rdb.lzf import decompress
from eventdb.rdb.source import Source
from tests.kit import old_encodings as old
from tests.kit.differential import Address, Wire, examples
from tests.kit.harness import Local

LONG = b"x" * 70
SIZES = [b"", b"a", b"0", b"12", b"-1", b"127", b"128", b"-4097", b"40000", b"8388608", b"-2147483649", LONG]
ELEMENTS = [*SIZES, b"9223372036854775807", b"y" * 300, b"z" * 5000]
PAIRS = [part for i, element in enumerate(ELEMENTS) for part in (b"f%d" % i, element)]
SCORED = [b"a", b"1", b"b", b"-2.5", b"c", b"inf", b"d", b"1e300"]
SCORES = {b"a": 1.0, b"b": -2.5, b"c": float("inf"), b"d": 1e300}
NUMBERS = [-70000, -3, 0, 5, 6, 1 << 40]

LISTS = {
    "plain": b"\x01" + old.length(len(ELEMENTS)) + b"".join(map(old.string, ELEMENTS)),
    "ziplist": b"\x0a" + old.string(old.ziplist(ELEMENTS)),
    "quicklist": b"\x0e\x02" + old.packed(old.ziplist(ELEMENTS[:5])) + old.string(old.ziplist(ELEMENTS[5:])),
    "quicklist 2": b"\x12\x03\x02" + old.string(old.listpack(ELEMENTS[:3])) + b"\x01" + old.string(ELEMENTS[3])
    + b"\x02" + old.packed(old.listpack(ELEMENTS[4:])),
}  # fmt: skip
HASHES = {
    "plain": b"\x04" + old.length(len(ELEMENTS)) + b"".join(map(old.string, PAIRS)),
    "zipmap": b"\x09" + old.string(old.zipmap(PAIRS)),
    "zipmap with room": b"\x09" + old.string(old.zipmap(PAIRS, free=3)),
    "ziplist": b"\x0d" + old.string(old.ziplist(PAIRS)),
    "listpack": b"\x10" + old.string(old.listpack(PAIRS)),
}
SETS = {
    "plain": b"\x02" + old.length(len(ELEMENTS)) + b"".join(map(old.string, ELEMENTS)),
    "listpack": b"\x14" + old.string(old.listpack(ELEMENTS)),
}
ZSETS = {
    "text": b"\x03\x04\x01a\x011\x01b\x04-2.5\x01c\xfe\x01d\x051e300",
    "binary": b"\x05\x04" + b"".join(old.string(m) + struct.pack("<d", s) for m, s in SCORES.items()),
    "ziplist": b"\x0c" + old.string(old.ziplist(SCORED)),
    "listpack": b"\x11" + old.string(old.listpack(SCORED)),
}
STRINGS = {
    b"hello": b"\x05hello", b"-128": b"\xc0\x80", b"300": b"\xc1\x2c\x01", b"-100000": b"\xc2\x60\x79\xfe\xff",
    b"q" * 200: old.repeated(b"q", 200), b"abc" * 30: old.packed(b"abc" * 30), b"w" * 100: b"\x40\x64" + b"w" * 100,
    b"v" * 9: b"\x80\x00\x00\x00\x09" + b"v" * 9, b"u" * 5: b"\x81\x00\x00\x00\x00\x00\x00\x00\x05" + b"u" * 5,
}  # fmt: skip


def restored(body: bytes, version: int = 10) -> Local:
    local = Local()
    assert local.raw("RESTORE", "k", 0, old.payload(body, version)) == b"+OK\r\n"
    local.check_replay()
    return local


@pytest.mark.parametrize("body", LISTS.values(), ids=LISTS)
def test_lists(body: bytes) -> None:
    assert restored(body)("LRANGE", "k", 0, -1) == ELEMENTS


@pytest.mark.parametrize("body", HASHES.values(), ids=HASHES)
def test_hashes(body: bytes) -> None:
    assert restored(body)("HGETALL", "k") == PAIRS


@pytest.mark.parametrize("body", SETS.values(), ids=SETS)
def test_sets(body: bytes) -> None:
    assert sorted(restored(body)("SMEMBERS", "k")) == sorted(ELEMENTS)  # type: ignore[call-overload]


@pytest.mark.parametrize("numbers", [NUMBERS, NUMBERS[1:5], [1 << 30, -(1 << 30)]])
def test_intsets(numbers: list[int]) -> None:
    local = restored(b"\x0b" + old.string(old.intset(numbers)))
    assert sorted(map(int, local("SMEMBERS", "k"))) == sorted(numbers)  # type: ignore[call-overload]
    assert local("OBJECT", "ENCODING", "k") == b"intset"


@pytest.mark.parametrize("body", ZSETS.values(), ids=ZSETS)
def test_sorted_sets(body: bytes) -> None:
    local = restored(body)
    assert {member: float(local("ZSCORE", "k", member)) for member in SCORES} == SCORES  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "body"), STRINGS.items())
def test_strings(value: bytes, body: bytes) -> None:
    assert restored(b"\x00" + body)("GET", "k") == value


@pytest.mark.redis
def test_a_real_server_reads_the_same(redis_server: Address) -> None:
    """So the table above is not only what this reader and its tests agree on."""
    with closing(Wire(redis_server)) as wire:
        for bodies, look in (
            (list(LISTS.values()), ["LRANGE", "k", 0, -1]), (list(HASHES.values()), ["HGETALL", "k"]),
            ([SETS["plain"]], ["SORT", "k", "ALPHA"]), (list(ZSETS.values()), ["ZRANGE", "k", 0, -1, "WITHSCORES"]),
            ([b"\x00" + body for body in STRINGS.values()], ["GET", "k"]),
            ([b"\x0b" + old.string(old.intset(NUMBERS))], ["SORT", "k"]),
        ):  # fmt: skip
            for body in bodies:
                assert wire.call("RESTORE", "k", 0, old.payload(body), "REPLACE") == b"+OK\r\n", body
                theirs, ours = wire.call(*look), restored(body).raw(*look)
                assert sorted(theirs.split(b"\r\n")) == sorted(ours.split(b"\r\n"))


TIMED = {
    "metadata": (24, b"\x02" + b"\x00\x01f\x01a" + b"%c\x01g\x01b", 12),
    "metadata of a release candidate": (22, b"\x02" + b"\x00\x01f\x01a" + b"%c\x01g\x01b", 12),
    "valkey": (22, b"\x02\x01f\x01a" + b"\xff" * 8 + b"\x01g\x01b%b", 80),
}


def timed_hash(name: str, timed: bool) -> bytes:
    kind, body, _ = TIMED[name]
    head = bytes([kind]) + (struct.pack("<q", 1_900_000_000_000) if kind == 24 else b"")
    if name == "valkey":
        return head + body % struct.pack("<q", 1_900_000_000_000 if timed else -1)
    return head + body % (1 if timed else 0)


@pytest.mark.parametrize("name", TIMED)
def test_a_hash_of_a_newer_type_is_read_when_no_field_has_a_deadline(name: str) -> None:
    version = TIMED[name][2]
    assert restored(timed_hash(name, False), version)("HGETALL", "k") == [b"f", b"a", b"g", b"b"]


@pytest.mark.parametrize("name", TIMED)
def test_deadlines_of_fields_are_read(name: str) -> None:
    local = restored(timed_hash(name, True), TIMED[name][2])
    at_ms = 1 if TIMED[name][0] == 22 and name != "valkey" else 1_900_000_000_000
    assert local.events()[-1] == [b"HPEXPIREAT", b"k", b"%d" % at_ms, b"FIELDS", b"1", b"g"]
    assert local("HGETALL", "k") == [b"f", b"a", b"g", b"b"][: 2 if at_ms == 1 else 4]


def test_a_hash_with_deadlines_goes_there_and_back() -> None:
    local = Local()
    local("HSET", "k", "a", 1, "b", 2, "c", 3)
    local("HPEXPIREAT", "k", 1_900_000_000_000, "FIELDS", 1, "a")
    local("HPEXPIREAT", "k", 1_900_000_000_500, "FIELDS", 1, "b")
    data = local("DUMP", "k")
    assert isinstance(data, bytes) and (data[0], data[-10]) == (24, 12)
    assert local.raw("RESTORE", "back", 0, data) == b"+OK\r\n"
    assert local("HPEXPIRETIME", "back", "FIELDS", 3, "a", "b", "c") == [1_900_000_000_000, 1_900_000_000_500, -1]
    local("HPERSIST", "k", "FIELDS", 2, "a", "b")
    plain = local("DUMP", "k")
    assert isinstance(plain, bytes) and (plain[0], plain[-10]) == (4, 10)
    local.check_replay()


@pytest.mark.parametrize("kind", [23, 25])
def test_a_listpack_hash_of_a_newer_type(kind: int) -> None:
    head = bytes([kind]) + (struct.pack("<q", 0) if kind == 25 else b"")
    body = head + old.string(old.listpack([b"f", b"a", b"0", b"g", b"b", b"0"]))
    assert restored(body, 12)("HGETALL", "k") == [b"f", b"a", b"g", b"b"]


def test_what_cannot_be_kept_is_named() -> None:
    for body, said in (
        (b"\x07\x81" + struct.pack(">Q", sum(b"ABCDEFGHI"[8 - i] - 65 << 10 + 6 * i for i in range(9)) | 3), "'ABC"),
        (b"\x1a\x00" + bytes(9) + b"\x40\x64\x40\x64\x01\x01p", "type 26"), (b"\x63", "type 99"),
    ):  # fmt: skip
        with pytest.raises(Unkept, match=said):
            payload.read(old.payload(body), b"k")
        refused = Local().raw("RESTORE", "k", 0, old.payload(body))
        assert refused.startswith(b"-ERR Bad data format: eventdb cannot keep")


def test_modules_are_passed_over_by_their_own_items() -> None:
    source = Source(b"\x01\x05\x02\x41\x00\x03" + bytes(4) + b"\x04" + bytes(8) + b"\x05\x03abc\x00rest")
    values.skip_module(source)
    assert source.take(4) == b"rest"


def test_streams_of_every_version() -> None:
    pack = old.listpack(
        [
            b"2", b"1", b"1", b"f", b"0",
            b"2", b"0", b"0", b"a", b"4",  # 5-1 f a
            b"3", b"0", b"1", b"gone", b"4",  # 5-2, deleted
            b"0", b"7", b"-1", b"2", b"g", b"1", b"h", b"", b"8",  # 12-0 g 1 h ""
        ]
    )  # fmt: skip
    head = b"\x01" + old.string(struct.pack(">QQ", 5, 1)) + old.string(pack) + b"\x02" + b"\x0c\x00"
    consumer = b"\x01\x01c" + struct.pack("<q", 1_700_000_000_002)
    pending = b"\x01" + struct.pack(">QQ", 5, 1) + struct.pack("<q", 1_700_000_000_001) + b"\x03"
    mine = b"\x01" + struct.pack(">QQ", 5, 1)
    second = b"\x05\x01" + b"\x05\x02" + b"\x09"
    active = struct.pack("<q", 1_700_000_000_003)
    producers = b"\x40\x64\x40\x64\x00\x00\x00"  # none; how long and how many ids are kept, and two counts
    for kind, body in (
        (15, head + b"\x01\x01g\x05\x01" + pending + consumer + mine),
        (19, head + second + b"\x01\x01g\x05\x01\x02" + pending + consumer + mine),
        (21, head + second + b"\x01\x01g\x05\x01\x02" + pending + consumer + active + mine),
        (26, head + second + b"\x01\x01g\x05\x01\x02" + pending + consumer + active + mine + producers),
    ):
        local = restored(bytes([kind]) + body, 11)
        assert local("XRANGE", "k", "-", "+") == [[b"5-1", [b"f", b"a"]], [b"12-0", [b"g", b"1", b"h", b""]]]
        assert local("XPENDING", "k", "g") == [1, b"5-1", b"5-1", [[b"c", b"1"]]]
        groups = local("XINFO", "GROUPS", "k")
        assert isinstance(groups, list)
        assert dict(zip(groups[0][::2], groups[0][1::2]))[b"entries-read"] == (1 if kind == 15 else 2)
        value = local.engine.store.keyspace.dbs[0].values[b"k"]
        assert value.groups[b"g"].parts()[1:] == [  # type: ignore[attr-defined]
            b"c", b"1700000000002 %d" % (1_700_000_000_003 if kind >= 21 else 1_700_000_000_002),
            b"%d 1700000000001 3" % (5 << 64 | 1), b"c",
        ]  # fmt: skip


@pytest.mark.redis
def test_how_far_a_group_is_follows_from_the_stream_where_its_form_does_not_say_it(redis_server: Address) -> None:
    """Before Redis 7.0: known at both ends of the stream, and nowhere between them."""
    pack = old.listpack(
        [b"3", b"0", b"1", b"f", b"0", *(part for i in range(3) for part in (b"2", b"%d" % i, b"0", b"a", b"4"))]
    )
    head = b"\x01" + old.string(struct.pack(">QQ", 5, 0)) + old.string(pack)
    groups = b"\x07" + b"".join(
        b"\x01%d%b\x00\x00\x00" % (i, bytes([ms])) for i, ms in enumerate((0, 4, 5, 6, 7, 9, 10))
    )
    with closing(Wire(redis_server)) as wire:
        for body in (head + b"\x03\x09\x00", head + b"\x03\x07\x00", b"\x00\x00\x09\x00"):
            local, data = Local(), old.payload(b"\x0f" + body + groups, 9)
            wire.call("DEL", "k")
            assert wire.call("RESTORE", "k", 0, data) == local.raw("RESTORE", "k", 0, data) == b"+OK\r\n"
            assert wire.call("XINFO", "GROUPS", "k") == local.raw("XINFO", "GROUPS", "k")
            local.check_replay()


def test_every_number_of_a_type_is_read_or_named() -> None:
    """What this file has bytes of is what the reader takes; the others are refused by their number."""
    covered = {body[0] for table in (LISTS, HASHES, SETS, ZSETS) for body in table.values()}
    covered |= {kind for kind, _, _ in TIMED.values()} | {0, 11, 15, 19, 21, 23, 25, 26}  # the tests above
    for kind in set(range(codes.SLOT_IMPORT)) - {codes.MODULE_2}:
        for valkey in (False, True):
            refused = ""
            try:
                values.read_value(Source(bytes(1)), kind, b"k", valkey)
            except Unkept as unkept:
                refused = str(unkept)
            except BadRdb:  # too few bytes: it was begun
                pass
            known = kind in covered and not (valkey and kind > codes.HASH_2_OF_VALKEY)
            assert known == (refused == ""), (kind, valkey, refused)
            assert known or f"type {kind} of " in refused


# -- hostile bytes

BODIES = [
    *LISTS.values(), *HASHES.values(), *SETS.values(), *ZSETS.values(), *(b"\x00" + body for body in STRINGS.values()),
    b"\x0b" + old.string(old.intset(NUMBERS)), timed_hash("metadata", False), timed_hash("valkey", False),
]  # fmt: skip


def read_all(data: bytes) -> None:
    """Read bytes as a value: any outcome is fine but an error without a name."""
    source = Source(data)
    try:
        values.read_value(source, source.byte(), b"k", False)
    except BadRdb:
        pass


def stream_body() -> bytes:
    local = Local()
    for i in range(1, 8):
        local.raw("XADD", "x", f"{i}-{i}", "f", str(i), "g", "w" * i)
    local.raw("XDEL", "x", "3-3")
    local.raw("XGROUP", "CREATE", "x", "g", "0")
    local.raw("XREADGROUP", "GROUP", "g", "c", "COUNT", 4, "STREAMS", "x", ">")
    data = local("DUMP", "x")
    assert isinstance(data, bytes)
    return data[:-10]


def test_truncated_values_are_refused() -> None:
    for body in [*BODIES, stream_body()]:
        for cut in range(len(body)) if len(body) < 2000 else [*range(300), *range(300, len(body), 97)]:
            source = Source(body[:cut])
            with pytest.raises(BadRdb):
                values.read_value(source, source.byte(), b"k", cut == -1)


@examples(300)
@given(st.sampled_from([*BODIES, stream_body()]), st.integers(0, 1 << 32), st.integers(1, 6))
def test_flipped_bytes_give_a_value_or_a_named_error(body: bytes, seed: int, count: int) -> None:
    rng = Random(seed)
    made = bytearray(body)
    for _ in range(count):
        made[rng.randrange(min(len(made), 400))] = rng.choice((0, 1, 63, 64, 127, 128, 129, 192, 195, 240, 254, 255))
    read_all(bytes(made))


@examples(300)
@given(st.integers(0, 30), st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_named_error(kind: int, data: bytes) -> None:
    read_all(bytes([kind]) + data)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24])
def test_a_lying_length_costs_nothing(kind: int) -> None:
    for lie in (b"\x80\xff\xff\xff\xff", b"\x81" + b"\xff" * 8, b"\x81\x00\x00\x00\x01\x00\x00\x00\x00"):
        source = Source(bytes([kind]) + lie + b"\x01a" * 20)
        with pytest.raises(BadRdb):
            values.read_value(source, source.byte(), b"k", False)


@pytest.mark.parametrize(
    ("data", "size"),
    [(b"\x00a\xe0\xff\x00", 1 << 40), (b"\x00a\x20\x05", 4), (b"\x00a\xe0\xff\x00", 9), (b"\x05ab", 6), (b"\x20", 3)],
)
def test_a_compressed_string_that_lies_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(BadRdb):
        decompress(data, size)


def test_a_value_that_would_unpack_to_more_than_a_string_may_have_is_refused() -> None:
    source = Source(b"\x0e\x01" + b"\xc3\x05" + old.length(1 << 30) + b"\x00a\xe0\xff\x00")
    with pytest.raises(BadRdb, match="of more than"):
        values.read_value(source, source.byte(), b"k", False)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_the_checksum_may_be_taken_in_pieces(data: bytes, cut: int) -> None:
    assert crc64(data[cut:], crc64(data[:cut])) == crc64(data)


def test_the_checksum_is_the_one_of_redis() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
