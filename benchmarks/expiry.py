"""Keys that live for half a second, written as fast as one connection can: does the expiry keep up with them?"""

from __future__ import annotations

import socket
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import hiredis

from benchmarks.load import expect_ok
from benchmarks.rows import Result
from benchmarks.servers import EventDB, Redis, Server

LIFE_MS = 500
BATCH = 500  # keys in one pipeline
IN_FLIGHT = 4  # pipelines on their way
SECONDS = 6.0
SET = b"*5\r\n$3\r\nSET\r\n$16\r\nkey:%%012d\r\n$1\r\nx\r\n$2\r\nPX\r\n$3\r\n%d\r\n" % LIFE_MS
PILED_UP_MAX = 3.0  # keys at the end, in lifetimes' worth of writes: 1 is the least there can be


@dataclass(frozen=True, slots=True)
class Short:
    """What one server made of the load."""

    rate: float  # SETs a second
    piled_up: float  # keys when the load ended, divided by those that were written within one lifetime
    empty_s: float  # from the end of the load until the last key was deleted


def live_and_die(server: Server, seconds: float = SECONDS) -> Short:
    """Run the load on a server that runs, and wait until it is empty again."""
    reader = hiredis.Reader()
    written = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as conn:
        waiting: deque[int] = deque()
        start = time.monotonic()
        while (spent := time.monotonic() - start) < seconds:
            conn.sendall(b"".join(SET % (written + i) for i in range(BATCH)))
            written += BATCH
            waiting.append(BATCH)
            if len(waiting) >= IN_FLIGHT:
                expect_ok(conn, reader, waiting.popleft())
        while waiting:
            expect_ok(conn, reader, waiting.popleft())
        left = _size(conn, reader)
        end = time.monotonic()
        while _size(conn, reader):
            time.sleep(0.005)
        empty_s = time.monotonic() - end
    rate = written / spent
    return Short(rate, left / (rate * LIFE_MS / 1000), empty_s)


def _size(conn: socket.socket, reader: hiredis.Reader) -> int:
    conn.sendall(b"DBSIZE\r\n")
    while (reply := reader.gets()) is False:
        reader.feed(conn.recv(1 << 16))
    assert isinstance(reply, int)
    return reply


def expiry(folder: Path, control: bool) -> list[Result]:
    """Writes of short-lived keys beside Redis, and how many of them are there at the end."""
    found: list[Short] = []
    for server in (
        Redis(folder / "expiry-redis", always=True),
        Redis(folder / "expiry-control", always=True) if control else EventDB(folder / "expiry-eventdb"),
    ):
        server.start()
        try:
            found.append(live_and_die(server))
        finally:
            server.kill()
    a, b = found
    name = f"SET PX {LIFE_MS}"
    emptied = f"empty after {a.empty_s:.2f} / {b.empty_s:.2f} s"
    left = f"{a.piled_up:.2f} / {b.piled_up:.2f}"
    return [
        Result("expiry", name, a.rate, b.rate, b.rate / a.rate, note=emptied),
        Result(
            "expiry", f"{name}, keys in lifetimes", a.piled_up, b.piled_up, b.piled_up, unit="", bound=PILED_UP_MAX,
            better="less", note=left,
        ),
    ]  # fmt: skip
