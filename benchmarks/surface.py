"""Rows beyond SET and GET: scripts, streams, bitmaps, HyperLogLogs, geo, large collections, beside Redis `always`."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from typing import Final

import hiredis

from benchmarks.rows import LoadRow, Result
from benchmarks.servers import Server

POINTS: Final = 100_000
MEMBERS: Final = 20_000
LONG: Final = 200_000
BATCH: Final = 500
MESSAGES: Final = 16  # read and acknowledged at once
READ: Final = 0.7  # floors
SCRIPT: Final = 0.5

RAND: Final = "__rand_int__"
LOADS: Final[dict[str, tuple[tuple[str, ...], float | None]]] = {
    "xadd": (("XADD", "stream", "*", "field", "value"), 0.9),
    "eval": (("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", f"key:{RAND}", "value"), SCRIPT),
    "eval read": (("EVAL", "return redis.call('GET', KEYS[1])", "1", f"key:{RAND}"), SCRIPT),
    "setbit": (("SETBIT", f"bits:{RAND}", "1000", "1"), 0.9),
    "pfadd": (("PFADD", "hll", RAND), 0.9),
    "geosearch": (("GEOSEARCH", "points", "FROMLONLAT", "10", "45", "BYRADIUS", "20", "km", "COUNT", "10"), READ),
    "sinter": (("SINTER", "set:a", "set:b"), READ),
    "hset large": (("HSET", "hash", f"field:{RAND}", "value"), 0.9),
    "lindex long": (("LINDEX", "list", str(LONG // 2)), READ),
    "lpush long": (("LPUSH", "list", "value"), 0.9),
}


def rows() -> list[LoadRow]:
    """Each load at 50 clients, one at a time and sixteen: the floor counts for sixteen, as for the other writes."""
    return [
        LoadRow("surface", name, 50, pipeline, floor if pipeline == 16 else None, command)
        for name, (command, floor) in LOADS.items()
        for pipeline in (1, 16)
    ]


def content() -> Iterator[list[str]]:
    """What the loads look into."""
    rng = random.Random(1)
    for n in range(POINTS):
        yield ["GEOADD", "points", f"{rng.uniform(0, 20):.6f}", f"{rng.uniform(40, 50):.6f}", f"p{n}"]
    for n in range(MEMBERS):  # they share one member in a hundred: the work is in looking
        yield ["SADD", "set:a", f"a{n}" if n % 100 else f"m{n}"]
        yield ["SADD", "set:b", f"b{n}" if n % 100 else f"m{n}"]
    for n in range(0, LONG, 100):
        yield ["RPUSH", "list", *[f"item:{i}" for i in range(n, n + 100)]]
    yield ["XGROUP", "CREATE", "work", "group", "$", "MKSTREAM"]


def encoded(words: list[str]) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Pipe:
    """One connection that sends many commands at once and reads as many replies."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        self.reader = hiredis.Reader()

    def __call__(self, commands: list[list[str]]) -> list[object]:
        self.socket.sendall(b"".join([encoded(words) for words in commands]))
        found: list[object] = []
        while len(found) < len(commands):
            reply = self.reader.gets()
            if reply is not False:
                assert not isinstance(reply, hiredis.ReplyError), reply
                found.append(reply)
                continue
            data = self.socket.recv(1 << 16)
            if not data:
                raise RuntimeError("the server closed the connection")
            self.reader.feed(data)
        return found


def prepare(server: Server) -> None:
    pipe, batch = Pipe(server), list[list[str]]()
    for words in content():
        batch.append(words)
        if len(batch) == BATCH:
            pipe(batch)
            batch = []
    pipe(batch)


def work_through(server: Server, seconds: float) -> float:
    """Messages a second: XADD of some, XREADGROUP of them, XACK, again and again on one connection."""
    pipe = Pipe(server)
    add = [["XADD", "work", "MAXLEN", "~", "10000", "*", "field", "value"]] * MESSAGES
    read = ["XREADGROUP", "GROUP", "group", "consumer", "COUNT", str(MESSAGES), "STREAMS", "work", ">"]
    done = 0
    start = time.monotonic()
    while (spent := time.monotonic() - start) < seconds:
        pipe(add)
        found = pipe([read])[0]
        assert isinstance(found, list)
        ids = [entry[0].decode() for entry in found[0][1]]
        pipe([["XACK", "work", "group", *ids]])
        done += len(ids)
    return done / spent


def streams(reference: Server, candidate: Server, seconds: float, count: int) -> Result:
    """In turn, as `compare` does."""
    pairs = [(work_through(reference, seconds), work_through(candidate, seconds)) for _ in range(count)]
    ratios = tuple(sorted(b / a for a, b in pairs))
    middle = pairs[count // 2]
    name = f"XADD, XREADGROUP, XACK, {MESSAGES} messages at once"
    return Result("surface", name, middle[0], middle[1], ratios[count // 2], ratios, bound=None)
