"""The memory of this process, as the operating system and the C library count it.

Python's allocators do not report what one value costs together with its neighbours, so the whole process is measured:
`used_bytes` is what it holds without what its C library and the interpreter have kept back after values were freed.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections import deque
from itertools import islice
from time import perf_counter
from typing import Any, Final

PAGE_BYTES: Final = resource.getpagesize()
FACTS: Final = (  # struct mallinfo2 of glibc, in order
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip

BLOCK_BYTES: Final = 96.0  # of one of the interpreter's small blocks, on average, until it was measured
BLOCK_BYTES_MAX: Final = 512.0  # what is larger is the C library's
DENSITY_BYTES: Final = 32 << 20  # growth that says what a block takes
SPARING: Final = 20  # times as long as a measurement took, its result is good enough for what is asked often
DEPTH_MAX: Final = 8  # of objects inside a value

_glibc: list[Any] = []  # the C library, once it was found to be glibc


def _find_glibc() -> Any:
    """The C library with mallinfo2 and malloc_trim, or None: musl and macOS have neither."""
    if not _glibc:
        found: Any = None
        try:
            found = ctypes.CDLL(None)
            shape: Any = type(
                "MallInfo", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in FACTS]}
            )
            found.mallinfo2.restype = shape
            found.malloc_trim.argtypes = [ctypes.c_size_t]
        except (OSError, AttributeError):
            found = None
        _glibc.append(found)
    return _glibc[0]


def malloc_facts() -> dict[str, int]:
    """What glibc's malloc says of itself; empty with another C library."""
    library = _find_glibc()
    if library is None:
        return {}
    info = library.mallinfo2()
    return {name: int(getattr(info, name)) for name in FACTS}


def resident_bytes() -> int:
    """What the process holds of the machine's memory now."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """The most it has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class SmallBlocks:
    """The interpreter's own memory for small objects, of which it returns only what has become empty in large pieces.

    What lies free in it shows by counting: the blocks missing since the highest count have gone. When it grows
    all the same, what is free is of no use (other sizes are asked for), and is believed the less.
    """

    def __init__(self) -> None:
        self.first_bytes = -1
        self.first_blocks = 0
        self.peak_bytes = 0
        self.peak_blocks = 0
        self.block_bytes = BLOCK_BYTES

    def free(self, held: int, blocks: int) -> int:
        """The bytes that are free in the `held` ones, of which `blocks` blocks are in use."""
        if self.first_bytes < 0:
            self.first_bytes, self.first_blocks = held, blocks
        if blocks >= self.peak_blocks:
            self.peak_bytes, self.peak_blocks = held, blocks
            grown = held - self.first_bytes
            if grown >= DENSITY_BYTES and blocks > self.first_blocks:
                self.block_bytes = min(BLOCK_BYTES_MAX, grown / (blocks - self.first_blocks))
        elif held > self.peak_bytes:
            useless = int(2 * (held - self.peak_bytes) / self.block_bytes)
            self.peak_bytes, self.peak_blocks = held, max(blocks, self.peak_blocks - useless)
        gone = int((self.peak_blocks - blocks) * self.block_bytes)
        return max(0, gone - (self.peak_bytes - held))


_small_blocks: Final = SmallBlocks()


def machine_facts() -> dict[str, int]:
    """Bytes of the whole machine as Linux counts them (MemTotal, MemAvailable, SwapTotal, SwapFree); else empty."""
    found: dict[str, int] = {}
    try:
        with open("/proc/meminfo", "rb") as lines:
            for line in lines:
                name, _, rest = line.partition(b":")
                found[name.decode("ascii", "replace")] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return {}
    return found


def used_bytes() -> int:
    """What it holds and uses; maxmemory is compared with it."""
    facts = malloc_facts()
    resident = resident_bytes()
    blocks = sys.getallocatedblocks()
    if not facts:
        return resident - min(resident // 2, _small_blocks.free(resident, blocks))
    held = max(0, resident - facts["arena"] - facts["hblkhd"])
    used = max(resident - facts["fordblks"], min(resident, facts["uordblks"] + facts["hblkhd"]))
    return used - min(used // 2, _small_blocks.free(held, blocks))


class Meter:
    """`used_bytes` for callers that ask often: how long a measurement takes grows with the memory."""

    def __init__(self) -> None:
        self.bytes = 0
        self.taken = 0.0  # when
        self.cost = 0.0  # seconds

    def rested(self, times: int = SPARING) -> bool:
        """The last measurement lies back as many times as long as it took."""
        return perf_counter() - self.taken >= self.cost * times

    def measure(self) -> int:
        begin = perf_counter()
        self.bytes = used_bytes()
        self.taken = perf_counter()
        self.cost = self.taken - begin
        return self.bytes

    def recent(self) -> int:
        return self.measure() if self.rested() else self.bytes


def size_of(thing: object, samples: int, depth: int = DEPTH_MAX) -> float:
    """Bytes of an object and all it refers to; the elements of a large container are estimated from the first few."""
    total = float(sys.getsizeof(thing))
    if isinstance(thing, (bytes, bytearray, int, float, str, type)) or thing is None or depth == 0:
        return total
    if isinstance(thing, (dict, list, tuple, set, frozenset, deque)):
        count = len(thing)
        looked = min(count, samples) if samples else count
        inside = 0.0
        for element in islice(thing, looked):
            inside += size_of(element, samples, depth - 1)
            if isinstance(thing, dict):
                inside += size_of(thing[element], samples, depth - 1)
        return total + inside * count / looked if looked else total
    for part in gc.get_referents(thing):
        if not isinstance(part, type):
            total += size_of(part, samples, depth - 1)
    return total


def give_back() -> bool:
    """Return to the operating system what the C library has kept back; False when it had nothing."""
    library = _find_glibc()
    return library is not None and bool(library.malloc_trim(0))
