"""Offer a server a fixed number of requests a second over many connections, and time each from when it was due.

A load that waits for replies before it asks again measures least when the server is slowest; here requests are due at
moments drawn beforehand (a Poisson process with a seed), and one that waits for its connection has begun to count. No
pipelining: a connection has one request on its way. `python -m benchmarks.offered --help`; prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass

import hiredis
import uvloop

from benchmarks.rows import KEYS, VALUE_BYTES

DRAIN_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Offered:
    """What came of it: latencies in ms from the moment a request was due to its reply."""

    asked: float  # requests a second
    rate: float  # replies a second
    p50: float
    p99: float
    p999: float
    worst: float


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, latencies: list[float]) -> None:
        self.reader = hiredis.Reader()
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.due = 0.0
        self.busy = False
        self.latencies = latencies

    def ask(self, due: float, request: bytes) -> None:
        if self.busy:
            self.waiting.append((due, request))
            return
        self.busy, self.due = True, due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        if (reply := self.reader.gets()) is False:
            return
        if isinstance(reply, hiredis.ReplyError):
            raise RuntimeError(str(reply))
        self.latencies.append((time.perf_counter() - self.due) * 1000)
        self.busy = False
        if self.waiting:
            self.ask(*self.waiting.popleft())


async def offer(port: int, rate: float, reads: int, connections: int, seconds: float, seed: int) -> Offered:
    """reads: percent of the requests that are GET; the others are SET. Raises RuntimeError when it never drains."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    made = [await loop.create_connection(lambda: _Connection(latencies), "127.0.0.1", port) for _ in range(connections)]
    for transport, connection in made:
        connection.transport = transport
    lines = [connection for _, connection in made]
    rng = random.Random(seed)
    value = rng.randbytes(VALUE_BYTES // 2).hex().encode()
    began = time.perf_counter()
    due, count = began, 0
    while due < began + seconds:
        now = time.perf_counter()
        while due <= now:
            lines[count % connections].ask(due, _request(rng, reads, value))
            count += 1
            due += rng.expovariate(rate)
        await asyncio.sleep(0 if due - now < 0.001 else due - now - 0.0005)
    while len(latencies) < count:
        if time.perf_counter() > began + seconds + DRAIN_S_MAX:
            raise RuntimeError(f"{count - len(latencies)} of {count} requests were not answered")
        await asyncio.sleep(0.01)
    spent = time.perf_counter() - began
    latencies.sort()

    def at(share: float) -> float:
        return round(latencies[min(len(latencies) - 1, int(len(latencies) * share))], 3)

    return Offered(rate, count / spent, at(0.5), at(0.99), at(0.999), round(latencies[-1], 3))


def _request(rng: random.Random, reads: int, value: bytes) -> bytes:
    key = int(rng.random() * KEYS)
    if rng.random() * 100 < reads:
        return b"*2\r\n$3\r\nGET\r\n$16\r\nkey:%012d\r\n" % key
    return b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%b\r\n" % (key, len(value), value)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offered", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, default=10_000, help="requests a second (10,000)")
    parser.add_argument("--reads", type=int, default=80, help="percent of GET (80)")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    found = uvloop.run(offer(asked.port, asked.rate, asked.reads, asked.connections, asked.seconds, asked.seed))
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
