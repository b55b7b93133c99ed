"""Put load on a server: redis-benchmark for rates, a plain pipelined loader to fill it with known keys."""

from __future__ import annotations

import csv
import random
import shutil
import socket
import statistics
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import hiredis

from benchmarks.rows import VALUE_BYTES, LoadRow, Result
from benchmarks.servers import Server

FILL_BATCH = 500


@dataclass(frozen=True, slots=True)
class Run:
    """What one redis-benchmark run said."""

    rate: float  # requests a second
    p99_ms: float
    cpu_us: float  # processor time the server's process took for a request, all threads


def redis_benchmark(server: Server, row: LoadRow, requests: int) -> Run:
    """One run of redis-benchmark; raises when the server answered with an error or went away."""
    binary = shutil.which("redis-benchmark") or "redis-benchmark"
    command = [binary, "-h", "127.0.0.1", "-p", str(server.port), "--csv", "-n", str(requests)]
    command += ["-c", str(row.clients), "-P", str(row.pipeline), "-d", str(VALUE_BYTES), "-r", str(row.numbers)]
    command += server.client_options()
    command += row.command or ("-t", row.test)
    cpu_s = server.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    lines = [line for line in csv.reader(done.stdout.splitlines()) if len(line) >= 7 and line[0] != "test"]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"redis-benchmark against {server.label}, {row.name}: {done.stdout}{done.stderr}")
    cpu_us = (server.cpu_seconds() - cpu_s) / requests * 1e6
    return Run(float(lines[-1][1]), float(lines[-1][6]), cpu_us)


def compare(row: LoadRow, reference: Server, candidate: Server, seconds: float, rounds: int) -> Result:
    """Run both in turn, `rounds` times about `seconds` each; the median of the ratios of neighbouring runs counts.

    The order swaps from round to round, so a machine that grows slower or faster favours neither.
    """
    step = row.clients * row.pipeline
    requests = max(20 * step, 1000)
    rate = min(redis_benchmark(server, row, requests).rate for server in (reference, candidate))
    requests = max(requests, int(rate * seconds) // step * step)
    pairs: list[tuple[Run, Run]] = []
    for number in range(rounds):
        if number % 2 == 0:
            first = redis_benchmark(reference, row, requests)
            pairs.append((first, redis_benchmark(candidate, row, requests)))
        else:
            second = redis_benchmark(candidate, row, requests)
            pairs.append((redis_benchmark(reference, row, requests), second))
    ratios = tuple(sorted(b.rate / a.rate for a, b in pairs))
    p99 = [statistics.median(run.p99_ms for run in side) for side in zip(*pairs, strict=True)]
    cpu = [statistics.median(run.cpu_us for run in side) for side in zip(*pairs, strict=True)]
    return Result(
        group=row.group,
        name=row.name,
        reference=statistics.median(a.rate for a, _ in pairs),
        candidate=statistics.median(b.rate for _, b in pairs),
        ratio=statistics.median(ratios),
        ratios=ratios,
        bound=row.floor,
        note=f"p99 {p99[0]:.2f} / {p99[1]:.2f} ms, cpu {cpu[0]:.1f} / {cpu[1]:.1f} µs",
    )


def fill(server: Server, count: int, progress: Callable[[int], None] = lambda done: None) -> None:
    """SET the keys redis-benchmark will read, `key:000000000000` and on, each with a random value of VALUE_BYTES."""
    rng = random.Random(count)
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as conn:
        for start in range(0, count, FILL_BATCH):
            stop = min(count, start + FILL_BATCH)
            conn.sendall(b"".join(_sets(range(start, stop), rng)))
            expect_ok(conn, reader, stop - start)
            progress(stop)


def _sets(numbers: Iterable[int], rng: random.Random) -> Iterable[bytes]:
    for number in numbers:
        # Text that compresses as ordinary payloads do: half of the bytes of a hex string carry information.
        value = rng.randbytes(VALUE_BYTES // 2).hex().encode()
        yield b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%b\r\n" % (number, len(value), value)


def expect_ok(conn: socket.socket, reader: hiredis.Reader, replies: int) -> None:
    """Read so many replies; each has to be OK."""
    while replies:
        reply = reader.gets()
        if reply is False:
            data = conn.recv(1 << 16)
            if not data:
                raise RuntimeError("the server closed the connection while it was being filled")
            reader.feed(data)
        elif reply != b"OK":
            raise RuntimeError(f"SET answered {reply!r}")
        else:
            replies -= 1
