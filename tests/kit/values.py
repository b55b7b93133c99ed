"""Values of every type in every size class of Redis's encodings, as commands that make them."""

from __future__ import annotations

from random import Random

Command = tuple[bytes | str | int | float, ...]

HLL_SPARSE, HLL_DENSE = 20, 6000  # elements


def values(rng: Random) -> dict[str, list[Command]]:
    """By key, the commands that make its value."""
    word = rng.randbytes

    def words(count: int, size: int) -> list[bytes]:
        return [b"%d:" % i + word(size) for i in range(count)]

    return {
        "string empty": [("SET", "string empty", "")],
        "string int": [("SET", "string int", str(rng.randint(-(1 << 62), 1 << 62)))],
        "string int32": [("SET", "string int32", -70000)],
        "string almost int": [("SET", "string almost int", "007")],
        "string embstr": [("SET", "string embstr", word(40))],
        "string raw": [("SET", "string raw", word(5000))],
        "string squeezed": [("SET", "string squeezed", b"squeeze me " * 300)],
        "bitmap": [("SETBIT", "bitmap", 100_000, 1)],
        "appended": [("SET", "appended", "a"), ("APPEND", "appended", "b")],
        "list small": [("RPUSH", "list small", 1, "two", *words(5, 9))],
        "list many": [("RPUSH", "list many", *words(3000, 20))],
        "list both ends": [("RPUSH", "list both ends", *range(9)), ("LPUSH", "list both ends", *range(300))],
        "list large element": [("RPUSH", "list large element", word(20_000), "x", b"abc" * 9000)],
        "set ints": [("SADD", "set ints", *range(-5, 100))],
        "set many ints": [("SADD", "set many ints", *range(600))],
        "set words": [("SADD", "set words", *words(10, 5))],
        "set many": [("SADD", "set many", *words(2500, 12))],
        "hash small": [("HSET", "hash small", "f", 1, "g", "two", "h", "")],
        "hash long": [("HSET", "hash long", "f", word(100))],
        "hash many": [("HSET", "hash many", *[part for each in words(1500, 8) for part in (each, each[::-1])])],
        "zset small": [("ZADD", "zset small", 1, "a", -2.5, "b", "inf", "c", 1e-300, "d", 0.1, "e")],
        "zset many": [("ZADD", "zset many", *[p for i, m in enumerate(words(1200, 6)) for p in (i / 7, m)])],
        "geo": [("GEOADD", "geo", 13.361389, 38.115556, "p", 15.087269, 37.502669, "q")],
        "hll sparse": [("PFADD", "hll sparse", *range(HLL_SPARSE))],
        "hll dense": [("PFADD", "hll dense", *range(HLL_DENSE))],
        "stream": [("XADD", "stream", f"{i}-{i % 3}", *fields(rng, i)) for i in range(1, 130)]
        + [("XDEL", "stream", "3-0", "100-1", "129-0"), ("XTRIM", "stream", "MAXLEN", 110)],
        "stream empty": [("XADD", "stream empty", "5-5", "f", "v"), ("XDEL", "stream empty", "5-5")],
        "stream of nothing": [
            ("XGROUP", "CREATE", "stream of nothing", "g", "$", "MKSTREAM"),
            ("XGROUP", "DESTROY", "stream of nothing", "g"),
        ],
        "stream high": [("XADD", "stream high", "18446744073709551615-18446744073709551614", "f", "v")],
        "stream groups": [("XADD", "stream groups", f"{i}-1", "f", i) for i in range(1, 30)]
        + [
            ("XGROUP", "CREATE", "stream groups", "g", "0"),
            ("XGROUP", "CREATE", "stream groups", "late", "$"),
            ("XGROUP", "CREATE", "stream groups", "counted", "5-1", "ENTRIESREAD", 5),
            ("XGROUP", "CREATECONSUMER", "stream groups", "late", "idle"),
            ("XREADGROUP", "GROUP", "g", "alice", "COUNT", 9, "STREAMS", "stream groups", ">"),
            ("XREADGROUP", "GROUP", "g", "bob", "COUNT", 5, "STREAMS", "stream groups", ">"),
            ("XACK", "stream groups", "g", "2-1", "11-1"),
            ("XCLAIM", "stream groups", "g", "carol", 0, "4-1", "5-1", "RETRYCOUNT", 7, "TIME", 1_700_000_000_000),
            ("XDEL", "stream groups", "6-1"),
        ],
    }


def fields(rng: Random, i: int) -> list[bytes | str | int | float]:
    if i % 5:
        return ["temperature", i, "note", rng.randbytes(rng.randrange(80))]
    return [part for j in range(rng.randrange(1, 4)) for part in (f"field {j}", -(10**j) * i)]
