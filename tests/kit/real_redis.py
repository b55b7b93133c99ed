"""A real redis-server that a test starts with options of its own, and clients that write to it without pause."""

from __future__ import annotations

import contextlib
import random
import threading
from pathlib import Path

import hiredis

from tests.conftest import start_redis
from tests.kit.wire import Wire, encode

SCRIPT = (
    "redis.call('INCR', KEYS[1]); redis.call('RPUSH', KEYS[2], ARGV[1]); return redis.call('SADD', KEYS[3], ARGV[1])"
)


class RealRedis:
    """One process; its files lie in `folder`."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        settings = ("--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0")
        self.process, self.port = start_redis(folder, *settings, *options)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def wire(self) -> Wire:
        return Wire(self.port)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def all_types(rng: random.Random, who: int, n: int) -> list[bytes]:
    """The commands of one step: every type, chance, clocks, Lua, MULTI, several databases."""
    k = rng.randrange(30)
    stream = f"x:{who}:{k % 3}"
    # A counter and a list in one MULTI: each step exactly once.
    steps = [
        encode("MULTI"), encode("INCR", f"count:{who}"), encode("RPUSH", f"log:{who}", n), encode("EXEC"),
        encode("SET", f"s:{k}", rng.randbytes(20)),
        encode("SET", f"t:{k}", n, "PX", rng.choice((1, 5, 100_000_000))),
        encode("GETEX", f"t:{k}", "EX", 100_000), encode("APPEND", f"a:{k}", "xyz"),
        encode("SETRANGE", f"a:{k}", k, "q"),
        encode("INCRBYFLOAT", f"f:{k}", "0.1"), encode("SETBIT", f"b:{k}", k * 7, n & 1), encode("PFADD", f"p:{k}", n),
        encode("LPUSH", f"l:{k}", n, n + 1), encode("LMOVE", f"l:{k}", f"l:{k + 1}", "LEFT", "RIGHT"),
        encode("RPOP", f"l:{k}", 2), encode("LINSERT", f"l:{k}", "BEFORE", n, "mid"),
        encode("HSET", f"h:{k}", f"f{n % 9}", n), encode("HINCRBYFLOAT", f"h:{k}", "x", "0.25"),
        encode("HDEL", f"h:{k}", f"f{k % 9}"), encode("SADD", f"u:{k}", n, n + 1, n + 2), encode("SPOP", f"u:{k}", 2),
        encode("SMOVE", f"u:{k}", f"u:{k + 1}", n), encode("ZADD", f"z:{k}", n, f"m{n % 11}", "0.1", "m"),
        encode("ZPOPMIN", f"z:{k}"), encode("ZINCRBY", f"z:{k}", "1.5", "m3"),
        encode("ZUNIONSTORE", f"zz:{k}", 2, f"z:{k}", f"u:{k}"),
        encode("GEOADD", f"g:{k}", 13.3 + k / 100, 38.1, n % 5),
        encode("XADD", stream, "MAXLEN", "~", 50, "*", "f", n, "who", who),
        encode("XGROUP", "CREATE", stream, "group", "0", "MKSTREAM"),
        encode("XREADGROUP", "GROUP", "group", f"c{k % 2}", "COUNT", 2, "STREAMS", stream, ">"),
        encode("XAUTOCLAIM", stream, "group", "c9", 0, "0", "COUNT", 1), encode("XTRIM", stream, "MAXLEN", 40),
        encode("EVAL", SCRIPT, 3, f"script:{who}", f"sl:{k}", f"su:{k}", n),
        encode("SELECT", 1 + who % 3), encode("SET", f"other:{k}", n),
        encode("PEXPIRE", f"other:{k}", rng.choice((2, 90_000_000))),
        encode("MOVE", f"other:{k}", 5),
        encode("COPY", f"other:{k}", f"copy:{k}", "DB", 6, "REPLACE"), encode("SELECT", 0),
        encode("RENAME", f"s:{k}", f"s:{k + 1}"), encode("DEL", f"a:{k + 5}"), encode("UNLINK", f"h:{k + 7}"),
        encode("SORT", f"l:{k}", "ALPHA", "STORE", f"sorted:{k}"), encode("PUBLISH", "news", n),
    ]  # fmt: skip
    return steps


class Writer(threading.Thread):
    """A client that writes steps of all types until it is stopped; `steps` is how many were acknowledged."""

    def __init__(self, port: int, who: int, seed: int, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.wire = Wire(port, timeout=60)
        self.who = who
        self.rng = random.Random(seed)
        self.steps = 0
        self.stopping = threading.Event()
        self.pause = pause

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while not self.stopping.wait(self.pause):
                commands = all_types(self.rng, self.who, self.steps)
                self.wire.send(*commands)
                for _ in commands:
                    reply = self.wire.receive()
                    if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("EXECABORT"):
                        raise AssertionError(reply)
                self.steps += 1

    def stop(self) -> None:
        self.stopping.set()
        self.join(30)
        self.wire.close()


def groups(wire: Wire) -> dict[str, object]:
    """What DEBUG DIGEST leaves out: consumer groups and who has which entry.

    Not entries-read and lag: XREADGROUP reaches a replica as XCLAIM, which counts nothing there, in Redis either.
    """
    found: dict[str, object] = {}
    for name in wire("KEYS", "x:*"):  # type: ignore[attr-defined]
        for group in wire("XINFO", "GROUPS", name):  # type: ignore[attr-defined]
            pending = wire("XPENDING", name, group[1], "-", "+", 10_000)
            found[str(name)] = (group[:8], [(row[0], row[1], row[3]) for row in pending])  # type: ignore[attr-defined]
    return found


def differing(ours: Wire, theirs: Wire) -> list[tuple[int, bytes]]:
    """The keys, with their databases, that two real servers hold differently.

    DEBUG DIGEST alone counts a key too whose time is over and which nobody has looked at since.
    """
    found: list[tuple[int, bytes]] = []
    if ours("DEBUG", "DIGEST") != theirs("DEBUG", "DIGEST"):
        for db in range(16):
            assert (ours("SELECT", db), theirs("SELECT", db)) == (b"OK", b"OK")
            names = sorted({*ours("KEYS", "*"), *theirs("KEYS", "*")})  # type: ignore[misc]
            found += [(db, n) for n in names if ours("DEBUG", "DIGEST-VALUE", n) != theirs("DEBUG", "DIGEST-VALUE", n)]
    return found
