"""Edges where texts and side effects of Redis are easily missed: compared with a real server."""

from __future__ import annotations

import pytest

from tests.kit.differential import Address, Arg, Pair

NUL = b"a\0b"
ERRORS: list[tuple[Arg, ...]] = [
    *(("SELECT", n) for n in ("99999999999", "2147483648", "-2147483649", "2147483647", "9223372036854775808")),
    *(
        command
        for seconds in ("1e400", "-1e400", "1e4000", "1e5000", "1e20", "nan", "x")
        for command in (
            ("BLPOP", "k", seconds),
            ("BLMOVE", "a", "b", "LEFT", "RIGHT", seconds),
            ("BLMPOP", seconds, 1, "a", "LEFT"),
            ("BZPOPMIN", "k", seconds),
            ("BRPOPLPUSH", "a", "b", seconds),
        )
    ),
    (NUL,),
    (NUL, NUL, "c"),
    (b"\0", b"\0", b"x" * 200 + NUL),
    (b"\xe9" * 200, NUL),
    *((name, NUL) for name in ("CLIENT", "CONFIG", "OBJECT", "PUBSUB", "COMMAND", "DEBUG", "SLOWLOG", "MEMORY")),
    ("CONFIG", "SET", NUL, 1),
    ("CLIENT", b"\xff" * 150),
    ("HELLO", 3, NUL),
    ("CLIENT", "KILL", "TYPE", NUL),
    ("CLIENT", "KILL", "USER", NUL),
    ("EXPIRE", "k", 10, NUL),
]


@pytest.mark.redis
def test_errors_have_the_texts_of_redis(redis_server: Address) -> None:
    with Pair(redis_server) as pair:
        for command in ERRORS:
            pair(*command)


@pytest.mark.redis
def test_a_subcommand_is_checked_when_it_is_queued(redis_server: Address) -> None:
    for asked in (
        "GETKEYS",
        "GETKEYS PING",
        "GETKEYS GET a",
        "GETKEYS GET",
        "GETKEYS NO SUCH",
        "NONE",
        "GETKEYSANDFLAGS",
    ):
        with Pair(redis_server) as pair:
            for line in ("MULTI", f"COMMAND {asked}", "COMMAND GETKEYS SET k v", "EXEC", "PING"):
                pair(*line.split())


STILL = """
LMOVE l l LEFT LEFT
LMOVE l l RIGHT RIGHT
LMOVE one one LEFT RIGHT
RPOPLPUSH one one
BLMOVE l l LEFT LEFT 1
BRPOPLPUSH one one 1
LTRIM l 0 -1
LTRIM l -100 100
LTRIM gone 0 -1
LREM l 0 none
LSET l 0 a
SADD s a
ZADD z 1 a
HSET h f v
PERSIST l
APPEND t x
SETNX t 1
INCRBY n 0
SMOVE s s a
MOVE gone 1
GETEX t PERSIST
SETRANGE t 0 v
ZADD z XX 1 a
ZINCRBY z 0 a
"""


@pytest.mark.redis
@pytest.mark.parametrize("line", STILL.strip().splitlines())
def test_what_leaves_a_value_as_it_was_breaks_watch_where_redis_says_so(redis_server: Address, line: str) -> None:
    with Pair(redis_server) as pair:
        for given in ("RPUSH l a b a", "RPUSH one a", "SADD s a", "ZADD z 1 a", "HSET h f v", "SET t v", "SET n 5"):
            pair(*given.split())
        pair("WATCH", "l", "one", "s", "z", "h", "t", "n", "gone")
        pair("MULTI")
        pair("PING")
        pair(*line.split(), via=1)
        pair("EXEC")
        pair.check_state()
