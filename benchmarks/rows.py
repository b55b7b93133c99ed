"""What is measured, and the ratio each row must reach; the floors are the project's own promise."""

from __future__ import annotations

from dataclasses import dataclass

KEYS = 100_000
VALUE_BYTES = 100


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One redis-benchmark load, run against a reference and a candidate in turn.

    test: its -t name, or, with a `command`, what the row is called. In a command `__rand_int__` stands for a number of
    12 digits below `numbers`.
    """

    group: str  # a key of `report.TITLES`
    test: str
    clients: int
    pipeline: int
    floor: float | None = None
    command: tuple[str, ...] = ()
    numbers: int = KEYS

    @property
    def name(self) -> str:
        test = self.test if self.command else self.test.upper()
        return f"{test} c={self.clients} P={self.pipeline}"

    @property
    def key(self) -> str:
        """What --only is matched with."""
        return f"{self.group} {self.test} c={self.clients} P={self.pipeline}"


def _grid(group: str, test: str, floors: dict[tuple[int, int], float]) -> list[LoadRow]:
    return [LoadRow(group, test, c, p, floors.get((c, p))) for c in (1, 50, 500) for p in (1, 16)]


READS = _grid("reads", "get", {(50, 1): 1.05, (50, 16): 1.0, (500, 16): 1.0})

WRITES = _grid("writes", "set", {(1, 1): 0.66, (50, 1): 1.0, (500, 1): 1.05, (50, 16): 1.1, (500, 16): 1.0}) + [
    LoadRow("writes", test, 50, pipeline, 1.0 if pipeline == 16 and test not in ("zadd", "mset") else None)
    for test in ("incr", "hset", "lpush", "sadd", "zadd", "mset")
    for pipeline in (1, 16)
]

ONE_ZONE = _grid("onezone", "set", {(c, p): 1.05 for c in (50, 500) for p in (1, 16)})

# The compiled build beside the pure one; below 1.15 on the reads it is not worth its build step.
BUILDS = [
    LoadRow("build", "get", 50, 1),
    LoadRow("build", "get", 50, 16, 1.15),
    LoadRow("build", "set", 50, 1),
    LoadRow("build", "set", 50, 16),
    LoadRow("build", "zadd", 50, 16),
]

SIZES = {10: "10", 1_000: "1k", 1_000_000: "1M"}  # elements of the keys that elements.py makes
WHOLE_MAX = 1_000  # a reply of more elements measures the wire


def _typed(group: str, size: int, text: str, floor: float | None = None) -> LoadRow:
    """A row at P=16 from a command line in which N stands for the size and R for a random number below it."""
    meanings = {"R": "__rand_int__", "N": str(size)}
    words = [word.rpartition(":") for word in text.split()]
    command = tuple(kind + colon + meanings.get(last, last) for kind, colon, last in words)
    shown = " ".join(kind or last for kind, colon, last in words if not (colon and last == "R"))
    return LoadRow(group, f"{shown}, {SIZES[size]}", 50, 16, floor, command, size)


def _of_types() -> list[LoadRow]:
    """Reads of each data type, at three sizes."""
    rows: list[LoadRow] = []
    for size in SIZES:
        middle, large = size // 2, size > 10
        rows += [
            _typed("types", size, "HGET hash:N f:R", 0.8),
            _typed("types", size, "LRANGE list:N 0 9", 0.8),
            _typed("types", size, f"LINDEX list:N {middle}"),
            _typed("types", size, "SISMEMBER set:N m:R"),
            _typed("types", size, "SRANDMEMBER set:N"),
            _typed("types", size, "ZSCORE zset:N m:R"),
            _typed("types", size, "ZRANK zset:N m:R", 0.6 if large else None),
            _typed("types", size, "ZRANGE zset:N 0 9", 0.8),
            _typed("types", size, "ZREVRANGE zset:N 0 9"),
            _typed("types", size, f"ZRANGEBYSCORE zset:N {middle} +inf LIMIT 0 10"),
            _typed("types", size, f"ZCOUNT zset:N {middle // 2} {middle}"),
            _typed("types", size, "XRANGE stream:N - + COUNT 10"),
        ]
        if size <= WHOLE_MAX:
            rows += [
                _typed("types", size, "HGETALL hash:N"),
                _typed("types", size, "SMEMBERS set:N"),
                _typed("types", size, "SINTER set:N other:N"),
            ]
    return rows


TYPES = _of_types()

# Writes into values that are there already.
TYPE_WRITES = [
    _typed("typewrites", size, text)
    for size in SIZES
    for text in (
        "HSET hash:N f:R value",
        "SADD set:N m:R",
        "ZADD zset:N R m:R",
        "LSET list:N 5 value",
        "XADD stream:N MAXLEN ~ N * f value",
    )
]

# The rows of --quick and of `make bench-check`: one of each kind.
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
    "surface eval c=50 P=16",
    "surface xadd c=50 P=16",
    "build get c=50 P=16",
    "build set c=50 P=16",
    "types HGET hash, 1k c=50 P=16",
    "types LRANGE list 0 9, 1k c=50 P=16",
    "types ZRANK zset, 1k c=50 P=16",
    "typewrites HSET hash value, 1k c=50 P=16",
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
    def key(self) -> str:
        """What tells it from every other row."""
        return f"{self.group} {self.name}"

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; None when there is none."""
        if self.bound is None:
            return None
        return self.ratio >= self.bound if self.better == "more" else self.ratio <= self.bound
