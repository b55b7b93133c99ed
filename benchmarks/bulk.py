"""What a million keys cost: time to start again, memory, and bytes of log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import fill
from benchmarks.rows import Result
from benchmarks.servers import EventDB, Redis, Server

REPLAY_RATE_MIN = 300_000  # events a second


@dataclass(frozen=True, slots=True)
class Weight:
    """One server, filled with the same keys."""

    empty_start_s: float
    restart_s: float
    rss_per_key: float  # bytes beyond the empty process, after the restart
    rss_live_per_key: float  # bytes, in the process that took the writes
    log_per_write: float  # bytes of one copy


def weigh(server: Server, keys: int) -> Weight:
    """Fill, SIGKILL, start again. Ends with the server killed."""
    empty_start_s = server.start()
    try:
        empty_rss, empty_log = server.rss_bytes(), server.log_bytes()
        fill(server, keys)
        live = server.rss_bytes() - empty_rss
        log = server.log_bytes() - empty_log
        server.kill()
        restart_s = server.start()
        rss = server.rss_bytes() - empty_rss
    finally:
        server.kill()
    return Weight(empty_start_s, restart_s, rss / keys, live / keys, log / keys)


def bulk(folder: Path, keys: int, control: bool) -> list[Result]:
    """Restart, replay rate, memory and log size of eventdb beside Redis. Only one of the two runs at a time."""
    redis = weigh(Redis(folder / "bulk-redis", always=True), keys)
    candidate: Server = Redis(folder / "bulk-control", always=True) if control else EventDB(folder / "bulk-eventdb")
    ours = weigh(candidate, keys)
    name = f"{keys:,} keys of 100 B"
    replay_s = [max(1e-6, side.restart_s - side.empty_start_s) for side in (redis, ours)]
    rates = [keys / seconds for seconds in replay_s]

    def less(what: str, a: float, b: float, unit: str, bound: float | None, note: str = "") -> Result:
        return Result("bulk", what, a, b, b / a, unit=unit, bound=bound, better="less", note=note)

    floor = f"floor {REPLAY_RATE_MIN:,}/s" + ("" if rates[1] >= REPLAY_RATE_MIN else " missed")
    started = f"empty start {redis.empty_start_s:.2f} / {ours.empty_start_s:.2f} s"
    return [
        less(f"restart, {name}", redis.restart_s, ours.restart_s, "s", 2.0, started),
        Result("bulk", "replay, events", rates[0], rates[1], rates[1] / rates[0], note=floor),
        less("memory a key, after restart", redis.rss_per_key, ours.rss_per_key, "B", 2.0),
        less("memory a key, after the load", redis.rss_live_per_key, ours.rss_live_per_key, "B", 2.0),
        less("log a write, one copy", redis.log_per_write, ours.log_per_write, "B", None),
    ]
