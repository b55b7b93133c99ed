"""Hostile bytes to everything that reads any: only the errors that are expected, bounded memory, no hang.

Seconds here; `make fuzz` runs each target for minutes (EVENTDB_FUZZ_SECONDS), and EVENTDB_FUZZ_SEED repeats a run.
tests/kit/fuzzing.py has the targets. The importers of whole files are fuzzed in tests/history/test_appendonly.py.
"""

from __future__ import annotations

import os
import resource
import time

import pytest

from tests.kit.fuzzing import TARGETS, run

SECONDS = float(os.environ.get("EVENTDB_FUZZ_SECONDS", "0.7"))
GROWN_KB_MAX = 400_000


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_bytes_end_in_an_error_that_is_expected(name: str) -> None:
    seed = int(os.environ.get("EVENTDB_FUZZ_SEED", time.time_ns() % (1 << 32)))
    print(f"EVENTDB_FUZZ_SEED={seed}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{name}: {run(name, seed, SECONDS)} inputs")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < GROWN_KB_MAX, f"{grown} KB"
