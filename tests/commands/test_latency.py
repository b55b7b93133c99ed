"""LATENCY and INFO latencystats: the monitor and the histograms, with the settings that turn them on."""

from __future__ import annotations

from contextlib import closing

import pytest

from eventdb.commands.server.latency import graph
from eventdb.metrics.latency import Histogram, LatencyEvent
from tests.kit.differential import Address, Wire, split
from tests.kit.harness import Local

OK = b"+OK\r\n"


def test_nothing_is_kept_by_default() -> None:
    local = Local()
    local.raw("SET", "k", "v")
    local.engine.accounting.took(local.client, local.client.last_command, [b"SET"], 1e9)  # type: ignore[arg-type]
    assert local("LATENCY", "LATEST") == [] and local("LATENCY", "HISTOGRAM") == []
    assert b"latency-monitor-threshold <milliseconds>" in local.raw("LATENCY", "DOCTOR")


def test_events_from_the_threshold_on_are_kept() -> None:
    local = Local()
    assert local.raw("CONFIG", "SET", "latency-monitor-threshold", "100") == OK
    assert b"has seen nothing" in local.raw("LATENCY", "DOCTOR")
    latencies = local.engine.accounting.latencies
    latencies.event("command", 99_999)
    assert local("LATENCY", "LATEST") == []
    latencies.event("command", 250_000)
    latencies.event("fast-command", 100_000)
    found = local("LATENCY", "LATEST")
    assert isinstance(found, list)
    assert [(name, last, worst) for name, _, last, worst in found] == [
        (b"command", 250, 250), (b"fast-command", 100, 100),
    ]  # fmt: skip
    assert [ms for _, ms in local("LATENCY", "HISTORY", "command")] == [250]  # type: ignore[attr-defined]
    assert b"* command: 1 samples, 250 ms on average" in local.raw("LATENCY", "DOCTOR")
    assert local("LATENCY", "RESET", "command", "nope") == 1
    assert local("LATENCY", "RESET") == 1 and local("LATENCY", "RESET") == 0


def test_a_command_that_takes_long_is_an_event_and_only_then_looked_at() -> None:
    local = Local()
    local.engine.config.set("enable-debug-command", "yes")
    assert local.engine.slow_usec == 10_000
    local.raw("CONFIG", "SET", "slowlog-log-slower-than", "-1", "latency-monitor-threshold", "20")
    assert local.engine.slow_usec == 20_000
    local.raw("DEBUG", "SLEEP", "0.03")
    found = local("LATENCY", "LATEST")
    assert isinstance(found, list) and found[0][0] == b"command" and found[0][2] >= 30
    assert local("SLOWLOG", "LEN") == 0


def test_one_sample_a_second_and_at_most_160() -> None:
    event = LatencyEvent()
    for at, ms in ((1, 5), (1, 9), (1, 7), (2, 3)):
        event.add(at, ms)
    assert list(event.samples) == [(1, 9), (2, 3)] and event.worst == 9
    for at in range(3, 300):
        event.add(at, 1)
    assert len(event.samples) == 160


def test_the_graph_is_drawn_as_redis_draws_it() -> None:
    event = LatencyEvent()
    for at, ms in ((1000, 10), (1001, 20)):
        event.add(at, ms)
    assert graph("command", event, 1001) == (
        "command - high 20 ms, low 10 ms (all time high 20 ms)\n" + "-" * 80 + "\n #\n |\n |\n_|\n  \n10\nss\n"
    )


@pytest.mark.parametrize(
    ("usec", "shown"), [(1.001, 1.003), (11.0, 11.007), (520.0, 520.191), (606.0, 606.207), (20300.0, 20316.159)]
)
def test_buckets_are_those_of_redis(usec: float, shown: float) -> None:
    """Values that a Redis 7.0 has shown."""
    histogram = Histogram()
    histogram.add(usec)
    assert histogram.percentile(50) == shown == histogram.percentile(99.9)


def test_steps_double_and_counts_add_up() -> None:
    histogram = Histogram()
    for usec in (3.5, 3.9, 7.0, 30.0, 30.0, 250.0):
        histogram.add(usec)
    assert histogram.doubling() == [(4, 2), (8, 3), (33, 5), (264, 6)]


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_histograms_have_the_shape_and_the_counts_of_redis(redis_server: Address, resp3: bool) -> None:
    local = Local()
    local.client.resp3 = resp3
    with closing(Wire(redis_server, resp3)) as wire:
        for who in (wire.call, local.raw):
            who("CONFIG", "SET", "latency-tracking", "no")
            who("CONFIG", "RESETSTAT")
            who("CONFIG", "SET", "latency-tracking", "yes")
            for line in ("SET k 1", "GET k", "GET k", "LPUSH k x", "CLIENT ID", "CLIENT GETNAME", "NOPE", "GET"):
                who(*line.split())
        try:
            for line in ("get", "GET lpush", "client", "client|id", "nope", "client|nope get", "set set"):
                words = ("LATENCY", "HISTOGRAM", *line.split())
                theirs, ours = split(wire.call(*words)), split(local.raw(*words))
                assert sorted(calls(ours[1])) == sorted(calls(theirs[1])) and ours[0] == theirs[0], line
        finally:
            wire.call("CONFIG", "SET", "latency-tracking", "yes")


def calls(items: list[bytes]) -> list[tuple[bytes, list[bytes], bytes]]:
    """Name, fields and number of calls of each command."""
    return [
        (name, split(found)[1][::2], split(found)[1][1])
        for name, found in zip(items[::2], items[1::2], strict=True)
    ]  # fmt: skip


def test_percentiles_in_info_follow_the_settings() -> None:
    local = Local()
    local.raw("CONFIG", "SET", "latency-tracking", "yes", "latency-tracking-info-percentiles", "50 99.9")
    local.raw("SET", "k", "v")
    text = local.raw("INFO", "latencystats").decode()
    line = next(line for line in text.split("\r\n") if line.startswith("latency_percentiles_usec_set:"))
    assert [part.partition("=")[0] for part in line.partition(":")[2].split(",")] == ["p50", "p99.9"]
    local.raw("CONFIG", "RESETSTAT")
    assert b"usec_set" not in local.raw("INFO", "latencystats")
    local.raw("CONFIG", "SET", "latency-tracking", "no")
    assert local("LATENCY", "HISTOGRAM") == []
