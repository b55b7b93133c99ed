"""Metrics as plain data, and as the text that Prometheus reads.

Nothing here counts: a family is made from plain counters at the moment somebody asks, so a counter costs an addition
and no library is on the way of a command. prometheus-client, which writes the text, is an optional dependency.
"""

from __future__ import annotations

from typing import Any, Final

from eventdb.metrics.distribution import Distribution

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MISSING: Final = "metrics-port needs prometheus-client, which is not installed: pip install 'eventdb[metrics]'"


class MissingLibraryError(ValueError):
    """prometheus-client is not installed; the text says what to do."""


class Family:
    """One metric: its name and meaning, and a value for each combination of labels."""

    def __init__(self, kind: str, name: str, help: str, labels: tuple[str, ...] = ()) -> None:
        self.kind = kind  # "counter" (its name ends with _total), "gauge" or "histogram"
        self.name = name
        self.help = help
        self.labels = labels
        self.samples: list[tuple[list[str], float]] = []
        self.spreads: list[
            tuple[list[str], list[tuple[str, float]], float | None]
        ] = []  # buckets, and the sum if known

    def add(self, value: float, *labels: str) -> Family:
        self.samples.append((list(labels), value))
        return self

    def spread(self, found: Distribution) -> Family:
        """The only sample of a histogram without labels."""
        buckets: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip([f"{bound:g}" for bound in found.bounds] + ["+Inf"], found.counts):
            seen += count
            buckets.append((bound, float(seen)))
        self.spreads.append(([], buckets, found.total))
        return self


class Snapshot:
    """What prometheus-client calls a collector: it hands out the families that it was made with."""

    def __init__(self, families: list[Family]) -> None:
        self.families = families

    def collect(self) -> list[Any]:
        from prometheus_client import core

        found: list[Any] = []
        for family in self.families:
            made: Any
            if family.kind == "histogram":
                made = core.HistogramMetricFamily(family.name, family.help, labels=family.labels)
                for labels, buckets, total in family.spreads:
                    made.add_metric(labels, buckets, total)
            else:
                of_kind: Any = core.CounterMetricFamily if family.kind == "counter" else core.GaugeMetricFamily
                made = of_kind(family.name, family.help, labels=family.labels)
                for labels, value in family.samples:
                    made.add_metric(labels, value)
            found.append(made)
        return found


def require() -> None:
    """Raises MissingLibraryError."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise MissingLibraryError(MISSING) from None


def render(families: list[Family]) -> bytes:
    """The text of a scrape."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry: Any = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot(families))
    text: bytes = generate_latest(registry)
    return text
