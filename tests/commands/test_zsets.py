"""Sorted sets: what reaches the log, what the log rebuilds, waiting pops, and numbers printed to the last digit."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventdb.keyspace.types.ranking import in_order
from eventdb.keyspace.types.zset import UNRANKED_MAX, ZSetValue, rank_large, score_text
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.numbers import format_double, parse_float
from tests.kit.harness import Local

SEED = 1887


@pytest.fixture
def db() -> Local:
    return Local()


def zset(db: Local, key: bytes) -> ZSetValue:
    value = db.engine.store.keyspace.dbs[0].values[key]
    assert isinstance(value, ZSetValue)
    return value


# -- the log


def test_conditions_and_increments_are_logged_as_the_scores_they_come_to(db: Local) -> None:
    db("ZADD", "z", 1, "a", "2.50", "b", 3, "a")
    db("ZADD", "z", "GT", "CH", 2, "a", 9, "b", 1, "new")
    db("ZINCRBY", "z", "0.1", "b")
    db("ZADD", "z", "INCR", "-inf", "a")
    assert db.events() == [
        [b"ZADD", b"z", b"3", b"a", b"2.5", b"b"],
        [b"ZADD", b"z", b"9", b"b", b"1", b"new"],
        [b"ZADD", b"z", b"9.1", b"b"],
        [b"ZADD", b"z", b"-inf", b"a"],
    ]
    db.check_replay()


@pytest.mark.parametrize(
    "call",
    [
        ("ZADD", "z", 1, "a"),
        ("ZADD", "z", "1.0", "a"),
        ("ZADD", "z", "XX", 5, "none"),
        ("ZADD", "none", "XX", 5, "none"),
        ("ZADD", "z", "NX", 5, "a"),
        ("ZADD", "z", "GT", 0, "a"),
        ("ZINCRBY", "z", 0, "a"),
        ("ZREM", "z", "none"),
        ("ZPOPMIN", "z", 0),
        ("ZREMRANGEBYSCORE", "z", "(1", "5"),
        ("ZRANGESTORE", "none", "z", 5, 9),
        ("ZUNIONSTORE", "none", 1, "none"),
        ("ZADD", "z", "nan", "a"),
    ],
)
def test_what_changes_nothing_leaves_no_event(db: Local, call: tuple[str | int, ...]) -> None:
    db("ZADD", "z", 1, "a")
    before = len(db.transactions())
    db(*call)
    assert len(db.transactions()) == before


def test_pops_and_removals_are_logged_as_the_members_that_went(db: Local) -> None:
    db("ZADD", "z", *(part for i in range(9) for part in (i, f"m{i}")))
    db("ZPOPMIN", "z", 2)
    db("ZPOPMAX", "z")
    db("ZREMRANGEBYRANK", "z", 0, 0)
    db("ZREMRANGEBYSCORE", "z", "-inf", "(4")
    db("ZREM", "z", "m4", "none", "m4")
    db("ZMPOP", 2, "none", "z", "MAX", "COUNT", 2)
    db("ZPOPMIN", "z", 10)
    assert db.events()[1:] == [
        [b"ZREM", b"z", b"m0", b"m1"],
        [b"ZREM", b"z", b"m8"],
        [b"ZREM", b"z", b"m2"],
        [b"ZREM", b"z", b"m3"],
        [b"ZREM", b"z", b"m4"],
        [b"ZREM", b"z", b"m7", b"m6"],
        [b"DEL", b"z"],
    ]
    assert db("EXISTS", "z") == 0
    db.check_replay()


def test_store_commands_are_logged_as_their_result(db: Local) -> None:
    db("ZADD", "a", 1, "x", 2, "y")
    db("SADD", "s", "y")
    db("SET", "to", "old")
    db("ZINTERSTORE", "to", 2, "a", "s", "WEIGHTS", 10, 1)
    db("ZRANGESTORE", "to", "a", 0, 0)
    db("ZDIFFSTORE", "to", 1, "none")
    assert db.events()[3:] == [
        [b"DEL", b"to"],
        [b"ZADD", b"to", b"21", b"y"],
        [b"DEL", b"to"],
        [b"ZADD", b"to", b"1", b"x"],
        [b"DEL", b"to"],
    ]
    db.check_replay()


DOUBLES = st.floats(allow_nan=False)


@given(DOUBLES)
def test_a_logged_score_reads_as_the_same_bits(score: float) -> None:
    assert struct.pack(">d", float(score_text(score))) == struct.pack(">d", score)


@given(DOUBLES)
def test_a_printed_score_is_what_printf_prints(score: float) -> None:
    assert format_double(score) == b"%.17g" % score


@pytest.mark.parametrize(
    ("text", "printed"),
    # as a real Redis 7.0.15 answered ZSCORE after ZADD; "" where it refused
    [
        ("1e300", "1.0000000000000001e+300"), ("0.1", "0.10000000000000001"), ("3.0", "3"), ("1e17", "1e+17"),
        ("1e16", "10000000000000000"), ("5e-324", "4.9406564584124654e-324"), ("1e-320", "9.9998886718268301e-321"),
        ("123456789012345678", "1.2345678901234568e+17"), ("12345678901234567", "12345678901234568"),
        ("1e21", "1e+21"), ("4503599627370497.5", "4503599627370498"), ("0x10", "16"), ("0X1P3", "8"),
        ("0x1p-2", "0.25"), ("0x1.8", "1.5"), ("inf", "inf"), ("-INFINITY", "-inf"), ("+5", "5"), (".5", "0.5"),
        ("1.e1", "10"), ("1E5", "100000"), ("1e-400", ""), ("-1e-400", ""), ("1e400", ""), ("0x", ""), ("nan", ""),
        ("1_0", ""), (" 1", ""), ("1 ", ""), ("1e", ""), (".", ""), ("", ""), ("--5", ""), ("infi", ""), ("1d", ""),
        ("nan(1)", ""), ("0x1p-2000", ""), ("0x1p2000", ""), ("+-0x1", ""), ("0x1 ", ""), ("1\0", ""), ("-nan", ""),
        ("0e5", "0"), ("0x0p9", "0"),
    ],
)  # fmt: skip
def test_scores_are_read_and_printed_as_redis_does(text: str, printed: str) -> None:
    if printed:
        assert format_double(parse_float(text.encode())).decode() == printed
    else:
        with pytest.raises(ReplyError, match="not a valid float"):
            parse_float(text.encode())


def test_minus_zero_is_zero_in_a_small_set_and_stays_in_a_large_one(db: Local) -> None:
    db("ZADD", "z", "-0", "a")
    assert db("ZSCORE", "z", "a") == b"0"
    db("ZADD", "z", 1, "m" * 65, "-0", "b", "0", "a")
    assert db("ZSCORE", "z", "b") == b"-0"
    assert db("ZRANGE", "z", 0, 1) == [b"a", b"b"]
    db.check_replay()


def test_the_digest_sees_every_bit_of_a_score_and_no_order(db: Local) -> None:
    def digest(*pairs: str | int) -> int:
        db("DEL", "z")
        db("ZADD", "z", *pairs)
        return zset(db, b"z").digest()

    assert digest(1, "a", 2, "b") == digest(2, "b", 1, "a")
    assert digest(1, "a", 2, "b") != digest(2, "a", 1, "b")
    assert digest("0.1", "a") != digest("0.10000000000000002", "a")


# -- order, made late and kept


def test_order_is_made_on_demand_and_then_kept_through_every_change(db: Local) -> None:
    rng = random.Random(SEED)
    model: dict[bytes, float] = {}
    for turn in range(2000):
        member = b"%d" % rng.randrange(300)
        if rng.random() < 0.25:
            db("ZREM", "z", member)
            model.pop(member, None)
        else:
            model[member] = float(rng.randrange(50))
            db("ZADD", "z", model[member], member)
        if turn in (700, 701, 1500, 1999):
            assert db("ZRANGE", "z", 0, -1) == in_order(model), f"seed {SEED}, turn {turn}"
    assert zset(db, b"z").ranking is not None
    db("COPY", "z", "copy")
    db("ZREMRANGEBYRANK", "z", 0, -3)
    assert db("ZRANGE", "z", 0, -1) == in_order(model)[-2:]
    assert db("ZREVRANGE", "copy", 0, -1) == in_order(model)[::-1]
    db.check_replay()


def test_a_replay_makes_no_order_and_a_primary_does_before_it_would_take_long(db: Local) -> None:
    for start in range(0, UNRANKED_MAX + 1, 32_768):
        pairs = [part for i in range(start, start + 32_768) for part in (i % 1000, i)]
        db("ZADD", "z", *pairs)
    assert zset(db, b"z").ranking is not None
    replica = Local()
    replica.engine.store.keyspace.dbs[0].deadlines = None
    replica.engine.apply(db.transactions())  # type: ignore[arg-type]
    assert zset(replica, b"z").ranking is None
    assert rank_large(replica.engine.store.keyspace) == replica("ZCARD", "z")
    assert zset(replica, b"z").ranking is not None and rank_large(replica.engine.store.keyspace) == 0
    assert replica("ZRANK", "z", 0) == 0
    assert replica("ZRANGE", "z", 140, 260) == db("ZRANGE", "z", 140, 260)


# -- scanning and sampling


def test_a_scan_returns_every_member_that_stays(db: Local) -> None:
    db("ZADD", "z", *(part for i in range(1000) for part in (i, f"m{i}")))
    seen: set[bytes] = set()
    cursor = b"0"
    turn = 0
    while turn == 0 or cursor != b"0":
        reply = db("ZSCAN", "z", cursor, "COUNT", 20)
        assert isinstance(reply, list)
        cursor = reply[0]
        seen.update(reply[1][::2])
        db("ZREM", "z", f"m{turn}")
        db("ZADD", "z", turn, f"new{turn}")
        turn += 1
    assert {b"m%d" % i for i in range(turn, 1000)} <= seen


@pytest.mark.parametrize("size", [5, 500])
def test_random_members_are_distinct_or_as_many_as_asked_for(db: Local, size: int) -> None:
    db("ZADD", "z", *(part for i in range(size) for part in (i, f"m{i}")))
    members = {b"m%d" % i for i in range(size)}
    for count in (1, 3, size - 1, size, size + 10):
        picked = db("ZRANDMEMBER", "z", count)
        assert len(set(picked)) == len(picked) == min(count, size)  # type: ignore[arg-type, call-overload]
    repeated = db("ZRANDMEMBER", "z", -3 * size, "WITHSCORES")
    assert len(repeated) == 6 * size and set(repeated[::2]) <= members  # type: ignore[arg-type, index]
    assert db("ZRANDMEMBER", "z") in members


# -- waiting


@pytest.mark.parametrize(("name", "reply"), [("BZPOPMIN", b"low"), ("BZPOPMAX", b"high")])
def test_a_waiting_pop_gets_the_first_member_that_comes(db: Local, name: str, reply: bytes) -> None:
    waiting = db.connect()
    assert db.raw(name, "none", "z", 0, client=waiting) == b""
    db("ZADD", "z", 1, "low", 2, "high")
    assert reply in db.take(waiting) and waiting.blocked is None
    assert db.events()[-1] == [b"ZREM", b"z", reply]
    db.check_replay()


def test_waiting_clients_are_served_in_the_order_they_came(db: Local) -> None:
    clients = [db.connect() for _ in range(3)]
    for client in clients:
        assert db.raw("BZMPOP", 0, 1, "z", "MIN", "COUNT", 2, client=client) == b""
    db("ZADD", "z", 1, "a", 2, "b", 3, "c")
    assert db.take(clients[0]) == (b"*2\r\n$1\r\nz\r\n*2\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n")
    assert db.take(clients[1]) == b"*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n"
    assert clients[2].blocked is not None
    assert db("EXISTS", "z") == 0
    db.check_replay()


def test_a_waiting_pop_passes_over_a_key_of_another_type(db: Local) -> None:
    waiting = db.connect()
    assert db.raw("BZPOPMIN", "z", 0, client=waiting) == b""
    db("SET", "z", "v")
    db("DEL", "z")
    db("LPUSH", "z", "v")
    assert db.take(waiting) == b"" and waiting.blocked is not None
    db("DEL", "z")
    db("ZADD", "z", 1, "a")
    assert db.take(waiting) == b"*3\r\n$1\r\nz\r\n$1\r\na\r\n$1\r\n1\r\n"


def test_a_wait_ends_with_nothing_when_its_time_is_up(db: Local) -> None:
    for resp3, nothing in ((False, b"*-1\r\n"), (True, b"_\r\n")):
        waiting = db.connect()
        waiting.resp3 = resp3
        assert db.raw("BZMPOP", "0.25", 1, "z", "MAX", client=waiting) == b""
        seconds, action = db.timers.pop()
        assert seconds == 0.25
        action()
        waiting.flush()
        assert db.take(waiting) == nothing


def test_a_pop_that_need_not_wait_replies_in_the_protocol_of_the_client(db: Local) -> None:
    db("ZADD", "z", "1.5", "a", 2, "b")
    db.client.resp3 = True
    assert db.raw("BZPOPMIN", "z", 0) == b"*3\r\n$1\r\nz\r\n$1\r\na\r\n,1.5\r\n"
    assert db.raw("BZMPOP", 0, 1, "z", "MIN") == b"*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\nb\r\n,2\r\n"


@pytest.mark.parametrize(
    ("score", "shown"),
    [("1e17", b"100000000000000000"), ("-1e17", b"-100000000000000000"), ("1e19", b"1e+19"), ("inf", b"inf")],
)
def test_zscan_shows_a_whole_score_of_a_small_set_digit_by_digit(score: str, shown: bytes) -> None:
    """A listpack keeps it as a whole number; found by test_differential_zsets.py, compared with Redis there."""
    local = Local()
    local("ZADD", "z", score, "a")
    assert local("ZSCAN", "z", "0") == [b"0", [b"a", shown]]


def test_a_rank_with_its_score_as_redis_7_2_gives_it() -> None:
    local = Local()
    local("ZADD", "z", "1", "a", "2.5", "b", "inf", "c")
    assert local("ZRANK", "z", "b", "WITHSCORE") == [1, b"2.5"]
    assert local("ZREVRANK", "z", "c", "withscore") == [0, b"inf"]
    for missing in (("z", "x"), ("none", "x")):
        assert local.raw("ZRANK", *missing, "WITHSCORE") == b"*-1\r\n"
        assert local.raw("ZRANK", *missing) == b"$-1\r\n"
    assert local.raw("ZRANK", "z", "b", "WITHSCORES") == b"-ERR syntax error\r\n"
    wrong = b"-ERR wrong number of arguments for 'zrevrank' command\r\n"
    assert local.raw("ZREVRANK", "z", "b", "WITHSCORE", "x") == local.raw("ZREVRANK", "z") == wrong
    local("SET", "s", "v")
    assert local.raw("ZRANK", "s", "b", "WITHSCORE").startswith(b"-WRONGTYPE ")
    local("HELLO", "3")
    assert local.raw("ZRANK", "z", "b", "WITHSCORE") == b"*2\r\n:1\r\n,2.5\r\n"
    assert local.raw("ZREVRANK", "z", "x", "WITHSCORE") == b"_\r\n"
