"""A state of the past, by snapshot and by the whole log: `python -m benchmarks.history --events 10000000`.

A history of SETs over a million keys of 100 B, a snapshot after each tenth of it. Then states at offsets drawn by a
seed, each once from the nearest snapshot and the rest of the log, and once by replaying the log from its beginning; a
restore in place, ASOF, export and a start take just that way (replay/state.py). Digests are compared. Seconds, and
seconds of processor, which mean something on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.servers import is_compiled
from eventdb.backends import Log, open_log
from eventdb.history.view import View
from eventdb.replay.cut import ToOffset
from eventdb.replay.making import create
from eventdb.replay.state import state_at
from eventdb.replay.store import SnapshotStore
from eventdb.replay.stores import open_store
from eventdb.replay.transaction import encode

KEYS = 1_000_000
PER_RECORD = 1_000
IN_FLIGHT = 64  # records
SECONDS_ASKED = 5.0  # a state at any offset


async def write(log: Log, first: int, stop: int, keys: int, rng: random.Random) -> None:
    """Transactions `first` to `stop - 1`, each one SET."""
    writer = await log.claim("benchmark", "127.0.0.1:6379")
    pending: list[asyncio.Future[int]] = []
    for start in range(first, stop, PER_RECORD):
        count = min(PER_RECORD, stop - start)
        values = rng.randbytes(50 * count).hex().encode()
        body = encode([
            [b"benchmark", [b"SET", b"key:%012d" % rng.randrange(keys), values[100 * n : 100 * n + 100]]]
            for n in range(count)
        ])  # fmt: skip
        at_ms = max(writer.last_time_ms, int(time.time() * 1000))
        pending.append(writer.append(body, first_offset=start, count=count, time_ms=at_ms))
        if len(pending) >= IN_FLIGHT:
            await pending.pop(0)
    await asyncio.gather(*pending)
    await writer.close()


async def timed(log: Log, store: SnapshotStore | None, offset: int) -> tuple[float, float, View]:
    """Seconds, processor seconds and the state."""
    began, cpu = time.perf_counter(), time.process_time()
    view, follower = await state_at(log, store, View, offset)
    assert follower.offset == offset
    return time.perf_counter() - began, time.process_time() - cpu, view


async def run(events: int, keys: int, samples: int, seed: int, folder: Path) -> None:
    log, store = open_log(f"quorum:{folder / 'log'}"), open_store(str(folder / "snapshots"))
    rng = random.Random(seed)
    step = max(1, events // 10)
    for first in range(1, events + 1, step):
        stop = min(events + 1, first + step)
        await write(log, first, stop, keys, rng)
        began, cpu = time.perf_counter(), time.process_time()
        made = await create(log, store, View, ToOffset(stop - 1))
        said = f"{time.perf_counter() - began:.1f} s, {time.process_time() - cpu:.1f} s of processor"
        print(f"snapshot at {made.offset:,}: {made.key_count:,} keys, {made.stored_bytes:,} bytes, {said}", flush=True)
    print(f"{'offset':>12} {'snapshot s':>11} {'cpu s':>7} {'replay s':>9} {'cpu s':>7}  same")
    worst: list[float] = []
    ratios: list[float] = []
    for offset in sorted(rng.randint(1, events) for _ in range(samples)):
        seconds, cpu, view = await timed(log, store, offset)
        digest = view.digest()
        del view
        all_seconds, all_cpu, view = await timed(log, None, offset)
        same = view.digest() == digest
        del view
        worst.append(seconds)
        ratios.append(cpu / all_cpu)
        print(f"{offset:>12,} {seconds:>11.2f} {cpu:>7.2f} {all_seconds:>9.2f} {all_cpu:>7.2f}  {same}", flush=True)
        if not same:
            raise SystemExit(f"offset {offset}: two states")
    verdict = "" if max(worst) <= SECONDS_ASKED else f", more than {SECONDS_ASKED:.0f}"
    print(f"at most {max(worst):.2f} s{verdict}; processor, beside a replay: {statistics.median(ratios):.2f} (median)")
    await log.close()
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--samples", type=int, default=5, help="offsets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the log and the snapshots")
    asked = parser.parse_args()
    print(f"{asked.events:,} events, {asked.keys:,} keys; {'compiled' if is_compiled() else 'pure'} build")
    with tempfile.TemporaryDirectory(prefix="history-", dir=asked.folder) as name:
        asyncio.run(run(asked.events, asked.keys, asked.samples, asked.seed, Path(name)))


if __name__ == "__main__":
    main()
