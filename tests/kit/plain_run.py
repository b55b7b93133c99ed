"""plain_run.c for tests: the module that was built, or one made now; and random streams to run on it.

As a program it is what the sanitizers watch: python -m tests.kit.plain_run MODULE SEED STREAMS
"""

from __future__ import annotations

import importlib.util
import random
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from eventdb.engine.plain_runs import KINDS, OWN, REPLY_BYTES, TALLIES
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.hyperloglog import EMPTY, REGISTERS, dense
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.ranking import Ranking
from eventdb.keyspace.types.set import SetValue
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.keyspace.value import Limits
from eventdb.protocol.errors import ReplyError

SOURCE = Path(__file__).resolve().parents[2] / "eventdb" / "engine" / "plain_run.c"
NOW_MS = 1_700_000_000_000
KEYS = [b"a", b"b", b"c", b"d", b"e", b"", b"key:7", b"\r\n", b"set", b"bits", b"runs"]
VALUES = [b"", b"0", b"-1", b"41", b"9223372036854775807", b"-9223372036854775808", b"-0", b"01", b"x" * 100, b"$3\r\n"]

BOUNDS = [b"0", b"1", b"3", b"-1", b"-2", b"100", b"-100", b"01", b"x", b"9223372036854775807", b"-9223372036854775808"]
SCORES = [b"0", b"1", b"2.5", b"-0", b"-inf", b"+inf", b"(1", b"x", b"nan", b"1e3", b"(-1", b""]
MEMBERS = [b"a", b"b", b"m0", b"m1", b"field", b"", b"7", b"-12", b"x" * 70]
# k: any key, or mostly that of a type: h(ash), l(ist), t: a set, z(set), x: a stream, p: a HyperLogLog; i: a bound,
# n: a score, m: a member, v: a value; the rest stands for itself.
HOME = {"h": b"d", "l": b"e", "t": b"set", "z": b"", "x": b"stream", "p": b"hll"}
SHAPES = """GET k|get k|SET k v|Set k v|INCR k|HGET h m|HGETALL h|LRANGE l i i|ZRANGE z i i|HSET h m v|HSET h m v m v
SADD t m|SADD t m|SADD t m m|LPUSH l v|LPUSH l v v|RPUSH l v|rpush l v v v|HSET h m|DEL k|G\0T k|STRLEN k
GETRANGE k i i|GETBIT k i|TTL k|PTTL k|TYPE k|HMGET h m m|HEXISTS h m|HLEN h|LINDEX l i|LLEN l|SISMEMBER t m|SMEMBERS t
SCARD t|SRANDMEMBER t|SRANDMEMBER t i|SINTER t t|ZSCORE z m|ZRANK z m|ZCARD z|ZREVRANK z m|ZCOUNT z n n|ZREVRANGE z i i
ZREVRANGE z i i WITHSCORES|ZRANGEBYSCORE z n n|ZRANGEBYSCORE z n n LIMIT i i|ZREVRANGEBYSCORE z n n WITHSCORES
XRANGE x - +|XRANGE x - + COUNT i|XLEN x|GEOSEARCH z FROMMEMBER m BYBOX 400 400 km|PFCOUNT p|SETBIT k i 1|SETBIT k 9 0
SETBIT c i 1|SETBIT c i 0|PFADD p m|PFADD p m v|INCRBY k i|DECR k|APPEND k m|EXPIRE k i|HDEL h m|HDEL h m m
HINCRBY h m i|LPOP l|RPOP l
LSET l i v|SREM t m|SPOP t|ZADD z n m|ZADD z n m n m|ZADD z NX n m|ZINCRBY z n m|ZREM z m|XADD x * m v
XADD x MAXLEN i * m v|SET k v NX|SET k v PX i|SET k v GET|SETEX k i v|SETNX k v
PEXPIRE k i|LTRIM l i i|ZPOPMIN z|ZPOPMIN z i|DEL k k""".replace("\n", "|").split("|")


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path, *flags: str) -> Path:
    """Compile plain_run.c into a folder."""
    target = folder / ("plain_run" + str(sysconfig.get_config_var("EXT_SUFFIX")))
    command = [compiler() or "cc", "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *flags]
    if sys.platform == "darwin":
        command += ["-undefined", "dynamic_lookup"]
    subprocess.run([*command, "-I", sysconfig.get_path("include"), str(SOURCE), "-o", str(target)], check=True)
    return target


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_run", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def make(path: Path) -> Callable[..., int]:
    """What find_runner returns, of a module that lies anywhere."""
    run: Callable[..., int] = load(path).Runner(HashValue, ListValue, SetValue, ZSetValue).run
    return run


def encode(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join([b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args])


def _word(rng: random.Random, word: str) -> bytes:
    if word == "v":
        return rng.choice(VALUES) if rng.random() < 0.9 else b"v" * rng.choice([1000, 65000, 65536, 70000])
    if word in ("i", "n", "m"):
        return rng.choice({"i": BOUNDS, "n": SCORES, "m": MEMBERS}[word])
    if word in HOME and rng.random() < 0.8:
        return HOME[word]
    return rng.choice(KEYS) if word == "k" or word in HOME else word.encode()


def random_command(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return encode(rng.choice([b"MGET", b"EXISTS"]), *rng.choices(KEYS, k=rng.choice([1, 2, 3, 63, 64])))
    name, *words = rng.choice(SHAPES).split(" ")
    return encode(name.encode(), *[_word(rng, word) for word in words])


def spoiled(rng: random.Random, stream: bytes) -> bytes:
    """The stream with some bytes changed, dropped or put in."""
    data = bytearray(stream)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        piece = bytes([rng.choice(b"*$\r\n0129-\0\xffGg")]) * rng.randrange(3)
        data[at : at + rng.randrange(3)] = piece
    return bytes(data)


RIGHTS: Final = (bytes(kind % 3 > 0 for kind in range(KINDS)), (b"a", b"k"))


class Fields:
    """One run after another on dicts of its own, as an engine's would be."""

    def __init__(self, run: Callable[..., int]) -> None:
        made = HashValue()
        made.fields = {b"a": b"1", b"": b"", b"b": b"x" * 70000}
        line, ranked = ListValue(), ZSetValue()
        line.front, line.back = [b"2", b"1", b"0"], [b"3", b"4" * 70000]
        ranked.scores = {b"m%d" % number: float(number // 8) for number in range(3000)}
        ranked.ranking = Ranking(ranked.scores, 8)  # with many blocks
        ranked.ranking._counted()
        self.run = run
        self.values: dict[bytes, object] = {
            b"a": b"1", b"b": made, b"c": bytearray(b"in place"), b"d": [1], b"e": line, b"": ranked,
        }  # fmt: skip
        self.values[b"bits"] = bytearray(b"\x00\xff" * 6)
        self.values[b"hll"] = bytearray(dense(EMPTY, bytes(range(32)) * (REGISTERS // 32)))
        self.values[b"runs"] = EMPTY
        few = SetValue()
        few.members = (b"a", b"7")
        self.values[b"set"] = few
        self.limits = Limits()
        self.handlers = [None if kind < OWN else self._handle for kind in range(KINDS)]
        self.rng = random.Random(1)
        self.expires = {b"a": NOW_MS + 1, b"key:7": NOW_MS - 1}
        self.dirty: set[bytes] = set()
        self.tally = [0] * TALLIES
        self.chunks: list[bytes] = []

    def _handle(self, client: object, argv: list[bytes]) -> bytes:
        """Stands for any handler."""
        if self.rng.random() < 0.2:
            raise self.rng.choice([ReplyError("ERR no"), ValueError("a fault")])
        return b"+" + argv[-1] * self.rng.choice([0, 1, 1, 1000]) + b"\r\n"

    def _fits(self, kind: int, argv: list[bytes]) -> bool:
        return self.rng.random() < 0.9

    def _failed(self, kind: int, failure: Exception) -> bytes:
        return b"-%d\r\n" % kind

    def _settle(self) -> int:
        size = self.rng.choice([0, 10])
        self.chunks.extend([b"*2\r\n", b"x" * size])
        return size

    def feed(self, rng: random.Random, data: bytes) -> int:
        """Run until it stops; returns where."""
        at = 0
        while True:
            replies: list[bytes] = []
            dirty = rng.choice([[], [], [{b"e"}], [self.dirty], None])
            head = rng.choice([b"*2\r\n$1\r\nw\r\n", b"*2\r\n$1\r\nw\r\n", None])
            end = self.run(
                data, at, rng.choice([1, 2, 512]), self.values, self.expires, NOW_MS, dirty, b"$-1\r\n",
                rng.random() < 0.5, replies, self.tally, head, self.dirty, self.chunks, rng.choice([1, 1 << 18]),
                rng.random() < 0.2, self.limits, None, rng.choice([None, None, RIGHTS]),
                (self.handlers, bytes([kind % 2 for kind in range(KINDS)]), self._fits, self._failed, self._settle),
            )  # fmt: skip
            assert at <= end <= len(data)
            assert self.tally[REPLY_BYTES] == sum(map(len, replies))
            if end == at:
                return at
            at = end


def main(path: str, seed: int, streams: int) -> None:
    fields = Fields(make(Path(path)))
    rng = random.Random(seed)
    for _ in range(streams):
        stream = b"".join([random_command(rng) for _ in range(rng.randrange(1, 20))])
        if rng.random() < 0.5:
            stream = spoiled(rng, stream)
        fields.feed(rng, stream[: rng.randrange(len(stream) + 1)] if rng.random() < 0.3 else stream)
        del fields.chunks[:]
        if rng.random() < 0.05:
            fields = Fields(fields.run)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
