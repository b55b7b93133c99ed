"""Nothing a client sends ends a lease: large values and long commands, with a second node that would take over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Server, StartServer, wait_until
from tests.kit.wire import Wire

DEADLINE_S = 60.0


class Pair:
    """A primary and a node that would take over."""

    def __init__(self, start: StartServer, url: str, *more: str) -> None:
        self.primary: Server = start(url, "--config", "commit-timeout=60000", *more)
        self.other: Server = start(url, "--role", "auto")
        self.wire = Wire(self.primary.port, timeout=DEADLINE_S)
        self.beside = Wire(self.other.port, timeout=DEADLINE_S)
        wait_until(lambda: b"connected_slaves:1" in info(self.wire), what="the primary knows the other")
        self.epoch = field(self.wire, "epoch")

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *raised: object) -> None:
        self.wire.close()
        self.beside.close()

    def check(self) -> None:
        """No failover took place, and the other has all of it."""
        assert field(self.wire, "epoch") == self.epoch
        assert b"role:master" in info(self.wire) and b"role:slave" in info(self.beside)
        offsets = self.wire("EVENTDB.OFFSET")
        assert isinstance(offsets, list)
        self.beside("EVENTDB.WAITFOR", offsets[0], 30_000)
        assert self.wire("EVENTDB.DIGEST") == self.beside("EVENTDB.DIGEST")


def info(wire: Wire) -> bytes:
    found = wire("INFO")
    assert isinstance(found, bytes)
    return found


def field(wire: Wire, name: str) -> bytes:
    return next(line.partition(b":")[2] for line in info(wire).splitlines() if line.startswith(name.encode() + b":"))


def test_values_of_64_mb_are_written_while_another_node_waits_to_take_over(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    with Pair(eventdb_server, f"quorum:{tmp_path / 'data'}") as pair:
        for n in range(3):
            assert pair.wire("SET", f"k{n}", os.urandom(64 << 20)) == b"OK"
        pair.check()


@pytest.mark.slow
def test_a_transaction_of_100_mb_is_written_while_another_node_waits_to_take_over(
    eventdb_server: StartServer, tmp_path: Path
) -> None:
    with Pair(eventdb_server, f"quorum:{tmp_path / 'data'}") as pair:
        assert pair.wire("MULTI") == b"OK"
        for n in range(10):
            assert pair.wire("SET", f"k{n}", os.urandom(10 << 20)) == b"QUEUED"
        assert pair.wire("EXEC") == [b"OK"] * 10
        pair.check()
