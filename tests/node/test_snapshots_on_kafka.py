"""A log in a real Kafka through its whole life: snapshots, a trim by DeleteRecords, a start, a reseed and restores."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eventdb.backends import LogInfo, open_log
from eventdb.cli.app import app
from eventdb.cli.dev.brokers import Brokers
from eventdb.history.view import View
from eventdb.replay.manifest import Manifest
from eventdb.replay.snapshotter import Snapshotter
from eventdb.replay.stores import open_store
from eventdb.replay.trimming import Trim, Window
from tests.conftest import Server, StartServer, wait_until
from tests.kit.kafka_brokers import topic_name
from tests.kit.wire import Wire

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]  # seven nodes' starts

EVERY = 40  # writes between two moments of which something is asked


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def digest_at(url: str, store: str, offset: int) -> object:
    done = run("log", "digest", "--log", url, "--store", store, "--at", str(offset), "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["digest"]


class Service:
    """The snapshotter's rounds, each as a process that begins with nothing would do it."""

    def __init__(self, url: str, store: str) -> None:
        self.url = url
        self.store = store

    def round(self) -> tuple[Manifest | None, Trim | None]:
        async def once() -> tuple[Manifest | None, Trim | None]:
            log, store = open_log(self.url), open_store(self.store)
            try:
                service = Snapshotter(log, store, View, every_ms=1, keep="1d:1h", window=Window(), slack=0)
                return await service.once()
            finally:
                await log.close()
                await store.close()

        return asyncio.run(once())

    def info(self) -> LogInfo:
        async def ask() -> LogInfo:
            log = open_log(self.url)
            try:
                return await log.info()
            finally:
                await log.close()

        return asyncio.run(ask())


def write(primary: Server, first: int) -> tuple[int, object]:
    """EVERY writes; the offset and the digest after them."""
    with Wire(primary.port) as wire:
        for n in range(first, first + EVERY):
            assert wire("HSET", f"user:{n % 60}", "n", n) in (0, 1)
        found = wire("EVENTDB.OFFSET")
        assert isinstance(found, list)
        return int(found[0]), wire("EVENTDB.DIGEST")


def digest_of(server: Server, offset: int) -> object:
    """When the node has come so far; one that begins anew answers LOADING first."""
    with Wire(server.port, timeout=60) as wire:
        wait_until(lambda: wire("EVENTDB.WAITFOR", offset, 10000) == offset, 60, f"offset {offset}: {server.text}")
        return wire("EVENTDB.DIGEST")


def test_a_log_in_kafka_from_its_first_snapshot_to_a_restore(
    kafka: Brokers, eventdb_server: StartServer, tmp_path: Path
) -> None:
    url, store = kafka.url(topic_name()), str(tmp_path / "snapshots")
    service = Service(url, store)
    settings = ("--snapshot-store", store)
    primary = eventdb_server(url, *settings)
    replica = eventdb_server(url, *settings, "--role", "replica")

    first, first_digest = write(primary, 0)
    made, trimmed = service.round()
    assert made is not None and made.verified and made.offset == first and f"{made.digest}" == text(first_digest)
    assert trimmed is not None and trimmed.refused == "" and trimmed.kept_from in at(made)
    assert service.info().first_position == trimmed.kept_from > 0, "DeleteRecords has moved the topic's beginning"

    assert digest_of(replica, first) == first_digest
    os.kill(replica.pid, signal.SIGSTOP)  # a replica that a trim outruns
    second, second_digest = write(primary, EVERY)
    made, trimmed = service.round()
    assert made is not None and trimmed is not None and made.offset == second and trimmed.kept_from in at(made)
    third, third_digest = write(primary, 2 * EVERY)

    fresh = eventdb_server(url, *settings, "--role", "replica")
    assert digest_of(fresh, third) == third_digest
    assert f"at offset {second}" in fresh.text, "it began with the snapshot"
    os.kill(replica.pid, signal.SIGCONT)
    wait_until(lambda: f"at offset {second}" in replica.text, 60, "the replica that was outrun begins anew")
    assert digest_of(replica, third) == third_digest

    between = second + EVERY // 2
    assert digest_at(url, store, second) == text(second_digest)
    for offset in (first, between):
        into = kafka.url(topic_name())
        done = run("restore", "--log", url, "--store", store, "--to-offset", str(offset), "--into", into)
        assert done.exit_code == 0, done.output
        restored = run("log", "digest", "--log", into, "--json")
        assert json.loads(restored.stdout)["digest"] == digest_at(url, store, offset), offset
    assert digest_at(url, store, first) == text(first_digest)
    asked = ("restore", "--log", url, "--store", store, "--to-offset", str(first + 1))
    gone = run(*asked, "--into", f"quorum:{tmp_path / 'gone'}")
    assert gone.exit_code == 1 and "it can be restored to" in gone.output, gone.output

    # A primary starts on what was left. After a kill it would expect the longest lease that there is: a trim without
    # slack leaves no statement of the old one.
    assert primary.stop() == 0
    again = eventdb_server(url, *settings, "--role", "primary")
    assert digest_of(again, third) == third_digest
    fourth, fourth_digest = write(again, 3 * EVERY)
    assert digest_of(replica, fourth) == fourth_digest
    assert digest_at(url, store, fourth) == text(fourth_digest)
    assert [line for line in run("log", "verify", "--log", url).output.splitlines() if "damage" in line] == []


def at(made: Manifest) -> tuple[int, int]:
    """Where the log may begin that was trimmed behind it: the last record of all stays."""
    return made.position, made.position - 1


def text(digest: object) -> str:
    assert isinstance(digest, bytes)
    return digest.decode()
