"""A node begins with a snapshot and the rest of the log: when it starts, and when a trim has outrun it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventdb.backends import LogError, open_log
from eventdb.cluster.lease import AskedRole, Holder, Statement
from eventdb.cluster.timing import LEASE_MS_MAX
from eventdb.engine.client import LOADING
from eventdb.engine.settings import Config
from eventdb.history.view import View
from eventdb.node.node import Node
from eventdb.node.role import Happening, Role
from eventdb.replay.making import create
from eventdb.replay.manifest import Manifest
from eventdb.replay.stores import open_store
from tests.kit.faults import until
from tests.kit.machines import START_MS, Scribe, keys_up_to


class Nodes:
    """A log of 60 transactions with a snapshot at 40, and the nodes of a test."""

    def __init__(self, folder: Path) -> None:
        self.log_url = f"memory:{folder.name}"
        self.log = open_log(self.log_url)
        self.store_url = str(folder / "snapshots")
        self.store = open_store(self.store_url)
        self.nodes: list[Node] = []
        self.snapshot: Manifest

    async def begin(self) -> Scribe:
        scribe = await Scribe.claim(self.log)
        await scribe.fill(records=4, per_record=10)
        self.snapshot = await create(self.log, self.store, View)
        await scribe.write_kind(Statement("gone", "127.0.0.1:1", 500, released=True).encode())
        await scribe.fill(records=2, per_record=10)
        return scribe

    def node(self, asked: AskedRole = AskedRole.REPLICA, store: str | None = None) -> Node:
        config = Config()
        config.snapshot_store = self.store_url if store is None else store
        node = Node(self.log_url, config, f"node-{len(self.nodes)}", asked=asked)
        self.nodes.append(node)
        return node


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    found = Nodes(tmp_path)
    yield found
    for node in found.nodes:
        await node.close()


def keys_of(node: Node) -> dict[str, str]:
    values = node.engine.store.keyspace.dbs[0].values
    assert all(isinstance(value, (bytes, bytearray)) for value in values.values())
    return {key.decode(): bytes(value).decode() for key, value in values.items()}  # type: ignore[call-overload]


async def test_a_start_takes_the_snapshot_and_the_rest_of_a_whole_log(nodes: Nodes) -> None:
    await nodes.begin()
    node = nodes.node()
    await node.start()
    assert keys_of(node) == keys_up_to(60)
    assert node.follower.transactions == 20, "it replayed what the snapshot holds"
    plain = nodes.node(store="")
    await plain.start()
    assert plain.follower.transactions == 60
    assert plain.engine.digest() == node.engine.digest()


async def test_a_start_on_a_trimmed_log_needs_the_snapshot_and_says_so(nodes: Nodes) -> None:
    await nodes.begin()
    await nodes.log.trim(nodes.snapshot.position)
    with pytest.raises(LogError, match=r"was trimmed, so its state needs a snapshot: name the store.*snapshot-store"):
        await nodes.node(store="").start()
    node = nodes.node(AskedRole.PRIMARY)
    await node.start()
    assert node.role is Role.PRIMARY and keys_of(node) == keys_up_to(60)
    assert node.writer is not None and node.writer.next_offset == 61


async def test_a_replica_that_a_trim_has_outrun_begins_anew_by_itself(nodes: Nodes) -> None:
    scribe = await nodes.begin()
    node = nodes.node()
    await node.start()
    assert node.role is Role.REPLICA and node._follow_task is not None
    node._follow_task.cancel()  # as if it had been stopped for a long time
    await until(node._follow_task.done)
    await scribe.fill(records=10, per_record=10)
    await create(nodes.log, nodes.store, View)
    await nodes.log.trim((await nodes.log.info()).end_position - 2)
    await scribe.fill(records=1, per_record=10)
    roles: list[tuple[Role, int]] = []
    forget = node._forget

    def watched(event: Happening, text: str = "") -> None:
        forget(event, text)
        roles.append((node.role, node.engine.gate & LOADING))

    node._forget = watched  # type: ignore[method-assign]
    node._follow_task = asyncio.get_running_loop().create_task(node._follow(rebuilt=True))
    await until(lambda: node.role is Role.REPLICA and node.follower.offset == 170)
    assert roles == [(Role.LOADING, LOADING)], "it answers nothing while it has no state"
    assert keys_of(node) == keys_up_to(170)
    assert node.engine.gate & LOADING == 0


async def test_without_a_store_an_outrun_replica_says_why_it_stands_still(nodes: Nodes) -> None:
    scribe = await nodes.begin()
    node = nodes.node(store="")
    await node.start()
    assert node._follow_task is not None
    node._follow_task.cancel()
    await until(node._follow_task.done)
    await scribe.fill(records=10, per_record=10)
    await nodes.log.trim((await nodes.log.info()).end_position - 2)
    await node._follow(rebuilt=True)
    assert node.role is Role.STUCK and "was trimmed" in node.engine.gate_error


async def test_a_fenced_primary_builds_its_state_from_the_snapshot(nodes: Nodes) -> None:
    await nodes.begin()
    node = nodes.node(AskedRole.PRIMARY)
    await node.start()
    assert node.role is Role.PRIMARY
    other = await Scribe.claim(nodes.log, "other")
    other.records = int(node.writer.last_time_ms - START_MS) // 1000 + 5 if node.writer is not None else 0
    await other.fill(records=1, per_record=10)
    await until(lambda: node.role is Role.REPLICA and node.follower.offset == 70)
    assert keys_of(node) == keys_up_to(70)
    assert node.follower.transactions == 30


async def test_who_begins_with_a_snapshot_knows_that_somebody_holds_the_lease(nodes: Nodes) -> None:
    """The statement that says so lies before the snapshot, and is not repeated in what comes after."""
    scribe = await Scribe.claim(nodes.log)
    statement = Statement("other", "127.0.0.1:1", 1234, holder=Holder("elsewhere", 1, 1, 1))
    await scribe.write_kind(statement.encode())
    await scribe.fill(records=40, per_record=10)
    await create(nodes.log, nodes.store, View)
    await scribe.write_kind(b"")
    node = nodes.node(AskedRole.AUTO)
    await node.start()
    assert node.follower.transactions == 0
    assert node.role is Role.REPLICA, "it has claimed the log of a living primary"
    assert node.standing.statement == statement and node.standing.lease_ms == 1234


async def test_who_cannot_know_expects_the_longest_lease(nodes: Nodes) -> None:
    scribe = await nodes.begin()
    await nodes.log.trim((await create(nodes.log, nodes.store, View)).position)
    await scribe.write_kind(b"")
    node = nodes.node(AskedRole.AUTO)
    await node.start()
    assert node.role is Role.REPLICA and node.standing.lease_ms == LEASE_MS_MAX
    await scribe.write_kind(Statement("other", "127.0.0.1:1", 500, released=True).encode())
    await until(lambda: node.role is Role.PRIMARY)
