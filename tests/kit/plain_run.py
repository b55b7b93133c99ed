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

from eventdb.engine.plain_runs import REPLY_BYTES, TALLIES
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.zset import ZSetValue

SOURCE = Path(__file__).resolve().parents[2] / "eventdb" / "engine" / "plain_run.c"
NOW_MS = 1_700_000_000_000
KEYS = [b"a", b"b", b"c", b"d", b"e", b"", b"key:7", b"\r\n"]
VALUES = [b"", b"0", b"-1", b"41", b"9223372036854775807", b"-9223372036854775808", b"-0", b"01", b"x" * 100, b"$3\r\n"]


BOUNDS = [b"0", b"1", b"3", b"-1", b"-2", b"100", b"-100", b"01", b"x", b"9223372036854775807", b"-9223372036854775808"]


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
    run: Callable[..., int] = load(path).Runner(HashValue, ListValue, ZSetValue).run
    return run


def encode(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join([b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args])


def random_command(rng: random.Random) -> bytes:
    key = rng.choice(KEYS)
    name = rng.choice([b"GET", b"get", b"MGET", b"EXISTS", b"HGET", b"SET", b"Set", b"INCR", b"INCR", b"DEL", b"G\0T",
                       b"HGETALL", b"LRANGE", b"ZRANGE"])  # fmt: skip
    if name in (b"MGET", b"EXISTS"):
        return encode(name, *rng.choices(KEYS, k=rng.choice([1, 2, 3, 63, 64])))
    if name in (b"LRANGE", b"ZRANGE"):
        return encode(name, key, rng.choice(BOUNDS), rng.choice(BOUNDS))
    if name == b"HGET":
        return encode(name, key, rng.choice(KEYS))
    if name in (b"SET", b"Set"):
        value = rng.choice(VALUES) if rng.random() < 0.9 else b"v" * rng.choice([1000, 65000, 65536, 70000])
        return encode(name, key, value) if rng.random() < 0.95 else encode(name, key, value, b"NX")
    return encode(name, key)


def spoiled(rng: random.Random, stream: bytes) -> bytes:
    """The stream with some bytes changed, dropped or put in."""
    data = bytearray(stream)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        piece = bytes([rng.choice(b"*$\r\n0129-\0\xffGg")]) * rng.randrange(3)
        data[at : at + rng.randrange(3)] = piece
    return bytes(data)


class Fields:
    """One run after another on dicts of its own, as an engine's would be."""

    def __init__(self, run: Callable[..., int]) -> None:
        made = HashValue()
        made.fields = {b"a": b"1", b"": b"", b"b": b"x" * 70000}
        line, ranked = ListValue(), ZSetValue()
        line.front, line.back = [b"2", b"1", b"0"], [b"3", b"4" * 70000]
        for score in range(3):
            ranked.put(float(score), b"m%d" % score)
        ranked.ranked()
        self.run = run
        self.values: dict[bytes, object] = {
            b"a": b"1", b"b": made, b"c": bytearray(b"in place"), b"d": [1], b"e": line, b"": ranked,
        }  # fmt: skip
        self.expires = {b"a": NOW_MS + 1, b"key:7": NOW_MS - 1}
        self.dirty: set[bytes] = set()
        self.tally = [0] * TALLIES
        self.chunks: list[bytes] = []

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
                rng.random() < 0.2,
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
