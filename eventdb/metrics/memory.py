"""The memory of this process, as the operating system and the C library count it.

Python's allocators do not tell what one value costs together with its neighbours, so the whole process is measured:
`used_bytes` is what it holds without what its C library has kept back after values were freed.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Any, Final

PAGE_BYTES: Final = resource.getpagesize()
FACTS: Final = (  # struct mallinfo2 of glibc, in order
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip

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


def used_bytes() -> int:
    """What it holds and uses; maxmemory is compared with it."""
    facts = malloc_facts()
    resident = resident_bytes()
    if not facts:
        return resident
    return max(resident - facts["fordblks"], min(resident, facts["uordblks"] + facts["hblkhd"]))


def give_back() -> bool:
    """Return to the operating system what the C library has kept back; False when it had nothing."""
    library = _find_glibc()
    return library is not None and bool(library.malloc_trim(0))
