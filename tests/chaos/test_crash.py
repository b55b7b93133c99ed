"""kill -9 at any moment: every acknowledged write is there after the restart, in order, and nothing is torn."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Server, StartServer
from tests.kit.wire import Load, Wire

ROUNDS = int(os.environ.get("EVENTDB_CRASH_ROUNDS", "200"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_under_load_loses_nothing_acknowledged(eventdb_server: StartServer) -> None:
    """On two servers at once, because most of the time is that of their starts: each has a core."""
    seed = int(os.environ.get("EVENTDB_SEED", str(random.randrange(2**32))))
    print(f"EVENTDB_SEED={seed}")
    servers = [eventdb_server(), eventdb_server()]
    with ThreadPoolExecutor(len(servers)) as pool:
        runs = [pool.submit(_killed_again_and_again, server, seed + n) for n, server in enumerate(servers)]
        for run in runs:
            run.result()


def _killed_again_and_again(server: Server, seed: int) -> None:
    rng = random.Random(seed)
    lengths: dict[str, int] = {}
    for turn in range(ROUNDS // 2):
        loads = [Load(server.port, f"{turn}:{i}", rng.choice((1, 1, 4, 32))) for i in range(4)]
        for load in loads:
            load.start()
        threading.Event().wait(rng.uniform(0.005, 0.08))  # the moment of the power cut, part of the seed
        server.kill()
        for load in loads:
            load.join(10)
            assert not load.is_alive()
        server.restart()
        with Wire(server.port) as wire:
            for load in loads:
                load.check(wire)
                lengths[load.list] = wire("LLEN", load.list)  # type: ignore[assignment]
    with Wire(server.port) as wire:
        assert {name: wire("LLEN", name) for name in lengths} == lengths, "an earlier round changed"
        digest = wire("EVENTDB.DIGEST")
        offset = wire("EVENTDB.OFFSET")
    assert isinstance(offset, list) and isinstance(digest, bytes)
    assert sum(lengths.values()) > 0
    log = server.log_url
    command = [sys.executable, "-m", "eventdb", "log", "digest", "--log", log, "--at", str(offset[1])]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert digest.decode() in printed
