"""The machines: zones, servers on them, and everything that was ever read from the log or promised by it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from eventdb.backends import Log, LogError, Record, RecordKind, Stretch, Trimmed, Writer
from eventdb.backends.quorum import QuorumLog
from eventdb.cluster.lease import AskedRole
from eventdb.engine.settings import Config
from eventdb.server.server import Server
from tests.kit.keyring import ring
from tests.simulation.broker import Partition, SimKafkaLog
from tests.simulation.network import Network
from tests.simulation.ops import SimOps, ZoneState
from tests.simulation.threads import SimRuntime
from tests.simulation.world import Process, World

URL = "quorum:/sim"
SEALED = bool(os.environ.get("EVENTDB_SIMULATE_SEALED"))  # the logs are encrypted; what is drawn for that has no seed
Fingerprint = tuple[int, int, int, int, int]  # epoch, kind, first offset, count, CRC32 of the body


def fingerprint(record: Record) -> Fingerprint:
    return record.epoch, int(record.kind), record.first_offset, record.count, zlib.crc32(record.body)


@dataclass(slots=True)
class Seen:
    """What readers were given and writers were promised. `reads`: (who, from, to, positions)."""

    records: dict[int, Fingerprint] = field(default_factory=dict)
    by: dict[int, str] = field(default_factory=dict)
    reads: list[tuple[str, int, int, tuple[int, ...]]] = field(default_factory=list)
    durable: list[tuple[str, int, Fingerprint]] = field(default_factory=list)
    digests: set[tuple[str, int, str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    complete: bool = False  # what comes from here on lies behind what is checked

    def read(self, who: str, start: int, stretch: Stretch) -> None:
        if self.complete:
            return
        for record in stretch.records:
            found = fingerprint(record)
            known = self.records.setdefault(record.position, found)
            self.by.setdefault(record.position, who)
            if known != found:
                other = self.by[record.position]
                self.wrong.append(f"two histories: at position {record.position} {who} read {found}, {other} {known}")
        self.reads.append((who, start, stretch.next_position, tuple(record.position for record in stretch.records)))


class WatchedLog:
    """The real log of one process; what it yields and acknowledges is remembered."""

    def __init__(self, cluster: Cluster, process: Process, log: Log) -> None:
        self._log = log
        self._seen = cluster.seen
        self._partition = cluster.partition
        self._archive = cluster.archive
        self._who = f"{process.name}#{process.number}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read(self, start: int = 0, *, follow: bool = False, after: int = -1) -> AsyncIterator[Stretch]:
        position = start
        async with contextlib.aclosing(self._log.read(start, follow=follow, after=after)) as stretches:  # type: ignore[type-var]
            async for stretch in stretches:
                self._seen.read(self._who, position, stretch)
                position = stretch.next_position
                yield stretch

    async def trim(self, before_position: int) -> None:
        """Keep aside what goes: the checks at the end want all of history."""
        while True:
            first = (await self._log.info()).first_position
            try:
                async with contextlib.aclosing(self._log.read(first)) as stretches:  # type: ignore[type-var]
                    async for stretch in stretches:
                        self._archive.update((record.position, record) for record in stretch.records)
                        if stretch.next_position >= before_position:
                            break
                break
            except Trimmed:
                continue  # the other trimmer kept it aside
        await self._log.trim(before_position)

    async def claim(self, node: str, address: str = "") -> Writer:
        writer = await self._log.claim(node, address)
        append = writer.append

        def watched(
            body: bytes, *, first_offset: int, count: int, time_ms: int, kind: RecordKind = RecordKind.DATA
        ) -> asyncio.Future[int]:
            future = append(body, first_offset=first_offset, count=count, time_ms=time_ms, kind=kind)
            found = (writer.epoch, int(kind), first_offset, count, zlib.crc32(body))
            future.add_done_callback(lambda done: self._acknowledged(found, done))
            return future

        writer.append = watched  # type: ignore[method-assign, assignment]
        return writer

    def _acknowledged(self, found: Fingerprint, done: asyncio.Future[int]) -> None:
        if not done.cancelled() and done.exception() is None and not self._seen.complete:
            self._seen.durable.append((self._who, done.result(), found))
            if self._partition is not None and done.result() >= self._partition.copied:
                self._seen.wrong.append(f"acknowledged to {self._who} with one copy: {found} at {done.result()}")


class Machine:
    """A place where one server runs at a time, restarted after it died."""

    def __init__(self, cluster: Cluster, number: int, asked: AskedRole) -> None:
        self.cluster = cluster
        self.name = f"n{number}"
        self.host = f"10.0.0.{number}"
        self.port = 6379
        self.asked = asked
        self.rate = 1.0
        self.wall_s = 0.0
        self.process: Process | None = None
        self.server: Server | None = None
        self.starting: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def up(self) -> bool:
        return self.process is not None and not self.process.dead

    @property
    def role(self) -> str:
        return self.server.node.role if self.up and self.server is not None else "down"

    def start(self, asked: AskedRole | None = None) -> None:
        assert not self.up
        cluster = self.cluster
        world = cluster.world
        process = Process(world, self.name, rate=self.rate, offset=world.rng.random() * 1000, wall_s=self.wall_s)
        process.machine = cluster.machine_id
        cluster.runtimes[process] = SimRuntime(process)
        self.process = process
        self.server = None
        self.starting = process.spawn(self._start(process, asked or self.asked))

    async def _start(self, process: Process, asked: AskedRole) -> None:
        """As an operator's service manager: try again until it starts."""
        cluster = self.cluster
        while True:
            config = Config()
            config.set("commit-timeout", str(cluster.commit_timeout_ms))
            config.snapshot_store = cluster.store_url
            server = Server(URL, config, self.host, self.port, self.name, asked=asked, lease_ms=cluster.lease_ms)
            self.server = server
            try:
                await server.start()
                cluster.world.note(f"{self.name}#{process.number} is up as {server.node.role}")
                return
            except LogError as error:
                cluster.world.note(f"{self.name}#{process.number} does not start: {error}")
                await server.close()
                asked = self.asked  # it was told to claim once: two that insist would never let each other begin
                await asyncio.sleep(0.1)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()


class Cluster:
    """`partition`: the log is this one, not quorum files."""

    def __init__(
        self, world: World, *, machines: int, zones: int, segment_bytes: int, payload_bytes: int,
        partition: Partition | None, lease_ms: int = 500,
    ) -> None:  # fmt: skip
        self.world = world
        self.partition = partition
        self.network = Network(world)
        self.zones = [ZoneState(world, index, f"/sim/zone-{letter}") for index, letter in enumerate("abcde"[:zones])]
        self.url = f"{URL}?zones={zones}"
        self.seen = Seen()
        self.runtimes: dict[Process, SimRuntime] = {}
        self.segment_bytes = segment_bytes
        self.payload_bytes = payload_bytes
        self.lease_ms = lease_ms
        self.commit_timeout_ms = 1000
        self.machine_id = ""
        self.store_url = ""  # of snapshots
        self.archive: dict[int, Record] = {}  # what trims took away, by position
        self.machines = [Machine(self, number, AskedRole.AUTO) for number in range(1, machines + 1)]

    def open_log(self, _url: str = URL, keys: str = "") -> Log:
        assert not keys
        process = self.world.current
        assert process is not None
        if self.partition is not None:
            topic = SimKafkaLog(process, self.partition, self.payload_bytes)
            if SEALED:
                topic.use_keys(ring(1))
            return WatchedLog(self, process, topic)  # type: ignore[return-value]
        log = QuorumLog(
            self.url,
            segment_bytes=self.segment_bytes,
            payload_bytes_max=self.payload_bytes,
            ops_of=lambda index: SimOps(process, self.zones[index]),
            runtime=self.runtimes[process],
        )
        if SEALED:
            log.use_keys(ring(1))
        return WatchedLog(self, process, log)  # type: ignore[return-value]

    def visitor(self, name: str) -> Process:
        """A process without a server, with a clock that is right."""
        process = Process(self.world, name)
        self.runtimes[process] = SimRuntime(process)
        return process

    def primaries(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.role == "primary"]

    def sample(self) -> None:
        """Take the digest of every node that has one offset now."""
        for machine in self.machines:
            if machine.up and machine.server is not None and not machine.process.paused:  # type: ignore[union-attr]
                node = machine.server.node
                commit = node.engine.commit
                if node.role in ("replica", "primary") and not commit.pending:
                    self._digest(machine, commit.durable_offset)

    def _digest(self, machine: Machine, offset: int) -> None:
        assert machine.server is not None
        self.seen.digests.add((machine.name, offset, machine.server.node.engine.digest()))

    def settled(self) -> str:
        """Why the cluster is not yet at rest; empty when it is."""
        primaries = self.primaries()
        if len(primaries) != 1:
            return f"{len(primaries)} primaries: {[(m.name, m.role) for m in self.machines]}"
        node = primaries[0].server.node  # type: ignore[union-attr]
        writer = node.writer
        if writer is None or node.engine.commit.pending or node.engine.gate:
            return "the primary is busy"
        for machine in self.machines:
            if machine is not primaries[0]:
                if machine.role != "replica":
                    return f"{machine.name} is {machine.role}"
                offset = machine.server.node.engine.commit.durable_offset  # type: ignore[union-attr]
                if offset != node.engine.commit.durable_offset:
                    return f"{machine.name} is at offset {offset} of {node.engine.commit.durable_offset}"
        for zone in getattr(writer, "zones", ()):  # type: ignore[attr-defined]
            if zone.detail.startswith("promised to epoch"):
                continue  # by a claim that came to nothing: the next one brings it back
            if zone.state != "up" or zone.end < writer.durable_end:  # type: ignore[attr-defined, union-attr]
                return f"{zone.name} is {zone.health()}, at {zone.end} of {writer.durable_end}"  # type: ignore[attr-defined, union-attr]
        return ""


def choose(rng: random.Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()
