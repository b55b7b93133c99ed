"""The Kafka backend against aiokafka's own producer, on three real brokers of this machine.

    python -m benchmarks.kafka [--seconds 0.5] [--rounds 7] [--served]

Both append the same random bytes (nothing shrinks) to topics with the same settings, acks=all, idempotent; ours carries
a 64-byte frame on top. Short runs in turn, medians, and the median of the ratios of neighbours: the brokers share the
machine with the clients, and both with whatever else runs there. --served asks how much of that a whole server reaches:
redis-benchmark SET with 500 clients; then aiokafka with 500 sends of one SET's bytes under way, batched by itself; then
aiokafka sending as many records as the server did, of the same size, one after the other, and running no commands.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaProducer

from benchmarks.load import redis_benchmark
from benchmarks.rows import LoadRow
from benchmarks.stages import Node, Wire
from eventdb.backends.kafka import KafkaLog, KafkaWriter
from eventdb.cli.dev.brokers import Brokers, cache_folder, fetch_jars

SIZES = (200, 20_000, 200_000)
IN_FLIGHT = (1, 8, 64)
BATCH_BYTES = 2 << 20
SET_BYTES = 170  # of the transaction that one SET of redis-benchmark -d 100 makes
Append = Callable[[bytes], Awaitable[object]]


class Run:
    """What one measurement found."""

    def __init__(self, seconds: float, cpu_seconds: float, size: int, latencies: list[float]) -> None:
        self.per_second = len(latencies) / seconds
        self.mb_per_second = self.per_second * size / 1e6
        self.cpu_us = cpu_seconds / len(latencies) * 1e6  # of this process, for one append
        self.p50_ms = statistics.median(latencies) * 1000


async def measure(append: Append, size: int, in_flight: int, seconds: float) -> Run:
    """Keep `in_flight` appends under way for so long."""
    body = os.urandom(size)
    latencies: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()

    async def worker() -> None:
        while (start := time.perf_counter()) < began + seconds:
            await append(body)
            latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return Run(time.perf_counter() - began, time.process_time() - cpu, size, latencies)


def ours(writer: KafkaWriter) -> Append:
    def append(body: bytes) -> Awaitable[object]:
        return writer.append(body, first_offset=writer.next_offset, count=1, time_ms=0)

    return append


def theirs(producer: AIOKafkaProducer, topic: str) -> Append:
    async def append(body: bytes) -> object:
        return await (await producer.send(topic, body, partition=0))

    return append


@dataclass(frozen=True, slots=True)
class Served:
    """SETs a second of a server with 500 clients, of aiokafka with 500 sends of one each, and with the same records."""

    rate: float
    sends: float
    records: float


async def compare_served(brokers: Brokers, folder: Path, seconds: float, rounds: int) -> list[Served]:
    """SETs a second of a server with 500 clients, and what aiokafka makes of the same bytes."""
    row = LoadRow("kafka", "set", 500, 1)
    other = KafkaLog(brokers.url("theirs"))
    await (await other.claim("benchmark")).close()
    producer = AIOKafkaProducer(bootstrap_servers=brokers.address, enable_idempotence=True, max_batch_size=BATCH_BYTES)
    await producer.start()
    append = theirs(producer, "theirs")
    server = Node(folder, "served", brokers.url("served"))
    server.start()
    try:
        await measure(append, 1000, 16, 4 * seconds)
        rate = (await asyncio.to_thread(redis_benchmark, server, row, 20_000)).rate
        found: list[Served] = []
        print("| SET/s, c=500 | SETs a record | aiokafka, 500 sends: SET/s | ratio | the same records: SET/s | ratio |")
        print("|---|---|---|---|---|---|")
        for _ in range(rounds):
            before = stored(server)
            run = await asyncio.to_thread(redis_benchmark, server, row, max(5_000, int(rate * seconds)))
            records, transactions, size = (b - a for a, b in zip(before, stored(server), strict=True))
            raw = await measure(append, size // records, 1, seconds)
            each = await measure(append, SET_BYTES, row.clients, seconds)
            one = Served(run.rate, each.per_second, raw.per_second * transactions / records)
            found.append(one)
            print(
                f"| {one.rate:,.0f} | {transactions / records:.0f} | {one.sends:,.0f} | {one.rate / one.sends:.2f} |",
                end="",
            )
            print(f" {one.records:,.0f} | {one.rate / one.records:.2f} |", flush=True)
        return found
    finally:
        server.kill()
        await producer.stop()
        await other.close()


def stored(server: Node) -> tuple[int, int, int]:
    """Records, transactions and bytes that the server has appended so far."""
    with Wire(server.port) as wire:
        info = bytes(wire.ask("INFO eventdb")[0])  # type: ignore[call-overload]
    found = dict(line.split(b":", 1) for line in info.split(b"\r\n") if b":" in line)
    return int(found[b"log_records"]), int(found[b"log_transactions"]), int(found[b"log_stored_bytes"])


async def compare(brokers: Brokers, seconds: float, rounds: int) -> None:
    log, other = KafkaLog(brokers.url("ours")), KafkaLog(brokers.url("theirs"))
    writer = await log.claim("benchmark")
    await (await other.claim("benchmark")).close()  # makes a topic with the same settings
    producer = AIOKafkaProducer(
        bootstrap_servers=brokers.address, enable_idempotence=True, max_batch_size=BATCH_BYTES,
        max_request_size=4 * BATCH_BYTES,
    )  # fmt: skip
    await producer.start()
    try:
        for append in (ours(writer), theirs(producer, "theirs")):
            await measure(append, 1000, 16, 4 * seconds)  # the brokers' JIT
        print(
            "| bytes | in flight | eventdb /s | MB/s | p50 ms | CPU µs | aiokafka /s | MB/s | p50 ms | CPU µs | ratio |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for size in SIZES:
            for in_flight in IN_FLIGHT:
                mine: list[Run] = []
                raw: list[Run] = []
                for _ in range(rounds):
                    mine.append(await measure(ours(writer), size, in_flight, seconds))
                    raw.append(await measure(theirs(producer, "theirs"), size, in_flight, seconds))
                print(row(size, in_flight, mine, raw), flush=True)
        if writer.stats.zone_errors:
            print(f"\n{writer.stats.zone_errors} sends had to be read back: {writer.trouble}")
    finally:
        await producer.stop()
        await log.close()
        await other.close()


def row(size: int, in_flight: int, mine: list[Run], raw: list[Run]) -> str:
    cells = [f"{size:,}", f"{in_flight}"]
    middle = statistics.median
    for runs in (mine, raw):
        cells.append(f"{middle(run.per_second for run in runs):,.0f}")
        cells.append(f"{middle(run.mb_per_second for run in runs):.1f}")
        cells.append(f"{middle(run.p50_ms for run in runs):.1f}")
        cells.append(f"{middle(run.cpu_us for run in runs):,.0f}")
    ratio = middle(a.per_second / b.per_second for a, b in zip(mine, raw, strict=True))
    return f"| {' | '.join(cells)} | {ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="The Kafka backend against aiokafka's own producer.")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each run")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each")
    parser.add_argument("--served", action="store_true", help="a whole server with 500 clients instead")
    parser.add_argument("--jars", type=Path, default=None, help="folder with Kafka's jars")
    options = parser.parse_args()
    build = Path("build/kafka")
    jars = fetch_jars(options.jars or (build if build.is_dir() else cache_folder()))
    with tempfile.TemporaryDirectory(prefix="eventdb-kafka-") as folder:
        brokers = Brokers(Path(folder), jars.resolve(), 3).start()
        try:
            if options.served:
                asyncio.run(compare_served(brokers, Path(folder), options.seconds, options.rounds))
            else:
                asyncio.run(compare(brokers, options.seconds, options.rounds))
        finally:
            brokers.kill()


if __name__ == "__main__":
    main()
