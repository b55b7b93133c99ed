"""What is measured, and the ratio each row must reach; the floors are the project's own promise."""

from __future__ import annotations

from dataclasses import dataclass

KEYS = 100_000
VALUE_BYTES = 100


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One redis-benchmark load, run against a reference and a candidate in turn. `test` is its -t name."""

    group: str  # reads, writes, onezone, build
    test: str
    clients: int
    pipeline: int
    floor: float | None = None

    @property
    def name(self) -> str:
        return f"{self.test.upper()} c={self.clients} P={self.pipeline}"

    @property
    def key(self) -> str:
        """What --only is matched with."""
        return f"{self.group} {self.test} c={self.clients} P={self.pipeline}"


def _grid(group: str, test: str, floors: dict[tuple[int, int], float]) -> list[LoadRow]:
    return [LoadRow(group, test, c, p, floors.get((c, p))) for c in (1, 50, 500) for p in (1, 16)]


READS = _grid("reads", "get", {(50, 1): 0.95, (50, 16): 0.75})

WRITES = _grid("writes", "set", {(1, 1): 0.6, (50, 1): 0.9, (500, 1): 0.9, (50, 16): 0.9, (500, 16): 0.9}) + [
    LoadRow("writes", test, 50, pipeline)
    for test in ("incr", "hset", "lpush", "sadd", "zadd", "mset")
    for pipeline in (1, 16)
]

ONE_ZONE = _grid("onezone", "set", {(c, p): 1.0 for c in (1, 50, 500) for p in (1, 16)})

# The compiled build beside the pure one; below 1.15 on the reads it is not worth its build step.
BUILDS = [
    LoadRow("build", "get", 50, 1),
    LoadRow("build", "get", 50, 16, 1.15),
    LoadRow("build", "set", 50, 1),
    LoadRow("build", "set", 50, 16),
    LoadRow("build", "zadd", 50, 16),
]

# The rows of --quick: one of each kind.
QUICK = {
    "reads get c=50 P=1",
    "reads get c=50 P=16",
    "writes set c=1 P=1",
    "writes set c=50 P=1",
    "writes set c=500 P=1",
    "writes set c=50 P=16",
    "writes incr c=50 P=16",
    "writes zadd c=50 P=16",
    "onezone set c=1 P=1",
    "onezone set c=50 P=1",
    "build get c=50 P=16",
    "build set c=50 P=16",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. `better` says which way the ratio (candidate / reference) should go."""

    group: str
    name: str
    reference: float
    candidate: float
    ratio: float
    ratios: tuple[float, ...] = ()
    unit: str = "/s"
    bound: float | None = None
    better: str = "more"
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; None when there is none."""
        if self.bound is None:
            return None
        return self.ratio >= self.bound if self.better == "more" else self.ratio <= self.bound
