"""Random histories over every type, few keys and few words, so that commands meet what others have left."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.kit.harness import Local

NOW_MS = 1_700_000_000_000
Words = tuple[bytes | str | int | float, ...]

KEYS = st.sampled_from(["a", "b", "c"])
PARTS = st.sampled_from(["x", "y", "7", "-1.5", "", "z" * 70, b"\xff\0\r\n", "1" * 20])
NUMBERS = st.integers(-3, 3)
SCORES = st.sampled_from(["1", "-2.5", "inf", "-inf", "1e-300", "0.1", "3"])
MANY = st.lists(PARTS, min_size=1, max_size=5)
AT_MS = st.sampled_from([NOW_MS + 1, NOW_MS + 50_000, 4_000_000_000_000, (1 << 62) // 1000])
GROUPS = st.sampled_from(["g", "h"])
CONSUMERS = st.sampled_from(["alice", "bob"])
IDS = st.sampled_from(["1-1", "2-2", "3-0", "1700000000000-1"])

PROLOGUE: list[Words] = [  # or few of the commands below would find anything
    ("XADD", "a", "1-1", "f", "v"), ("XADD", "a", "2-2", "f", "v"), ("XADD", "a", "3-0", "g", "v"),
    ("XGROUP", "CREATE", "a", "g", "0"), ("XREADGROUP", "GROUP", "g", "alice", "COUNT", 2, "STREAMS", "a", ">"),
    ("HSET", "b", "x", 1, "y", 2),
]  # fmt: skip


def command(*parts: object) -> st.SearchStrategy[Words]:
    """A command of words, and of strategies for words or for lists of them."""
    drawn = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*drawn).map(lambda found: tuple(w for p in found for w in (p if isinstance(p, list) else [p])))


COMMANDS: st.SearchStrategy[Words] = st.one_of(
    command("SET", KEYS, PARTS), command("APPEND", KEYS, PARTS), command("SETBIT", KEYS, st.integers(0, 99), 1),
    command("SET", KEYS, PARTS, "PXAT", AT_MS), command("PEXPIREAT", KEYS, AT_MS), command("PERSIST", KEYS),
    command("INCR", KEYS), command("RPUSH", KEYS, MANY), command("LPUSH", KEYS, MANY), command("LPOP", KEYS),
    command("LSET", KEYS, NUMBERS, PARTS), command("LINSERT", KEYS, "BEFORE", PARTS, PARTS), command("RPOP", KEYS),
    command("SADD", KEYS, MANY), command("SREM", KEYS, PARTS), command("SPOP", KEYS),
    command("ZADD", KEYS, SCORES, PARTS), command("ZINCRBY", KEYS, SCORES, PARTS), command("ZREM", KEYS, PARTS),
    command("HSET", KEYS, PARTS, PARTS), command("HSET", KEYS, "x", 1, "y", 2), command("HDEL", KEYS, PARTS),
    command("HPEXPIREAT", KEYS, AT_MS, "FIELDS", 1, PARTS), command("HPERSIST", KEYS, "FIELDS", 1, PARTS),
    command("PFADD", KEYS, MANY), command("COPY", KEYS, KEYS, "DB", NUMBERS.map(abs), "REPLACE"),
    command("RENAME", KEYS, KEYS), command("DEL", KEYS), command("MOVE", KEYS, NUMBERS.map(abs)),
    command("SELECT", st.sampled_from([0, 0, 1, 15])), command("SWAPDB", 0, 1), command("FLUSHDB"),
    command("XADD", KEYS, IDS, "f", PARTS), command("XADD", KEYS, "*", "f", PARTS, "g", PARTS),
    command("XADD", KEYS, "*", "f", PARTS), command("XDEL", KEYS, IDS), command("XTRIM", KEYS, "MAXLEN", 2),
    command("XSETID", KEYS, "1800000000000-1"), command("XGROUP", "DESTROY", KEYS, GROUPS),
    command("XGROUP", "CREATE", KEYS, GROUPS, st.sampled_from(["0", "$", "1-1"]), "MKSTREAM"),
    command("XGROUP", "CREATE", KEYS, GROUPS, "0", "ENTRIESREAD", 3), command("XGROUP", "SETID", KEYS, GROUPS, "0"),
    command("XGROUP", "CREATECONSUMER", KEYS, GROUPS, CONSUMERS),
    command("XGROUP", "DELCONSUMER", KEYS, GROUPS, CONSUMERS),
    command("XREADGROUP", "GROUP", GROUPS, CONSUMERS, "COUNT", 2, "STREAMS", KEYS, ">"),
    command("XREADGROUP", "GROUP", GROUPS, CONSUMERS, "NOACK", "STREAMS", KEYS, ">"),
    command("XREADGROUP", "GROUP", GROUPS, CONSUMERS, "STREAMS", KEYS, "0"), command("XACK", KEYS, GROUPS, IDS),
    command("XCLAIM", KEYS, GROUPS, CONSUMERS, 0, IDS, "RETRYCOUNT", 4),
    command("XCLAIM", KEYS, GROUPS, CONSUMERS, 0, IDS, "FORCE"),
    command("XAUTOCLAIM", KEYS, GROUPS, CONSUMERS, 0, "0"),
    command("EVENTDB.ONCE", st.sampled_from(["t1", "t2", "t3"]), "INCR", KEYS),
    command("ACL", "SETUSER", st.sampled_from(["ann", "default"]), "on", ">secret", "~k:*", "+get"),
    command("ACL", "DELUSER", "ann"),
    command("FUNCTION", "LOAD", "REPLACE", st.sampled_from([
        "#!lua name=one\nredis.register_function('f', function() return 1 end)",
        "#!lua name=two\nredis.register_function('g', function() return 2 end)",
    ])),
    command("FUNCTION", "DELETE", "one"), command("@later", st.sampled_from([1, 7000, 60_000, 4 * 86_400_000])),
)  # fmt: skip


def run(local: Local, steps: list[Words]) -> None:
    """Errors are no matter: they change nothing."""
    for step in steps:
        if step[0] == "@later":
            local.engine.store.now_ms += int(step[1])
        else:
            local.raw(*step)
