"""A whole server over zones that fail: nobody sees what is not durable, and the service comes back by itself."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from pathlib import Path

import hiredis
import pytest

from eventdb.cluster.topology import Member
from eventdb.engine.engine import Engine
from eventdb.engine.settings import Config
from eventdb.replay.follower import Follower
from eventdb.server.server import Server
from tests.kit.faults import Bench, until
from tests.kit.wire import encode

SOON_S = 15.0


class AsyncWire:
    """As tests.kit.wire.Wire, for a server in the same loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stream, self.writer = reader, writer
        self.replies: asyncio.Queue[object] = asyncio.Queue()
        self.pump = asyncio.get_running_loop().create_task(self._pump())

    async def _pump(self) -> None:
        parser = hiredis.Reader()
        while data := await self.stream.read(1 << 16):
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                self.replies.put_nowait(reply)

    async def __call__(self, *args: str | int) -> object:
        self.send(*args)
        return await self.receive()

    def send(self, *args: str | int) -> None:
        self.writer.write(encode(*args))

    async def receive(self) -> object:
        return await asyncio.wait_for(self.replies.get(), SOON_S)

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.pump, return_exceptions=True)


class Site:
    """A server on three zones that fail on command."""

    def __init__(self, tmp_path: Path, commit_timeout_ms: int) -> None:
        self.bench = Bench(tmp_path)
        config = Config()
        config.commit_timeout_ms = commit_timeout_ms
        self.server = Server(self.bench.url, config, port=0)
        node = self.server.node
        node.log = self.bench.open()
        node.follower.log = node.log
        self.wires: list[AsyncWire] = []

    async def wire(self) -> AsyncWire:
        made = AsyncWire(*await asyncio.open_connection("127.0.0.1", self.server.port))
        self.wires.append(made)
        return made

    async def close(self) -> None:
        for ops in self.bench.ops:
            ops.heal()
        await asyncio.gather(*(wire.close() for wire in self.wires))
        await self.server.close()
        await self.bench.close()


@pytest.fixture
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    made = Site(tmp_path, getattr(request, "param", 60_000))
    await made.server.start()
    yield made
    await made.close()


async def eventually(wire: AsyncWire, *args: str | int, reply: object) -> None:
    async with asyncio.timeout(SOON_S):
        while await wire(*args) != reply:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("read", "after"),
    [
        (("GET", "k"), b"new"),
        (("MGET", "clean", "k"), [b"1", b"new"]),
        (("SCAN", "0", "COUNT", "100"), [b"0", [b"k", b"clean"]]),
        (("KEYS", "k"), [b"k"]),
        (("DBSIZE",), 2),
        (("STRLEN", "k"), 3),
    ],
)
async def test_no_reader_sees_what_two_stalled_zones_have_not_synced(
    site: Site, read: tuple[str, ...], after: object
) -> None:
    writer, reader, other = await site.wire(), await site.wire(), await site.wire()
    assert await writer("SET", "clean", "1") == b"OK"
    assert await writer("SET", "gone", "soon") == b"OK"
    for ops in site.bench.ops[1:]:
        ops.stall(frozenset({"pwrite"}))
    writer.send("DEL", "gone")
    writer.send("SET", "k", "new")
    await asyncio.to_thread(site.bench.ops[1].stalled.wait, SOON_S)
    await asyncio.to_thread(site.bench.ops[2].stalled.wait, SOON_S)
    reader.send(*read)
    assert await other("GET", "clean") == b"1", "clean keys are read meanwhile"
    assert await other("GET", "nobody") is None
    for _ in range(20):
        await other("PING")
    assert reader.replies.empty() and writer.replies.empty()
    for ops in site.bench.ops:
        ops.heal()
    found = await reader.receive()
    if isinstance(found, list) and isinstance(found[-1], list):
        found[-1].sort(reverse=False)
        assert sorted(after[1]) == found[-1]  # type: ignore[index]
    else:
        assert found == after
    assert await writer.receive() == 1
    assert await writer.receive() == b"OK"


async def test_transactions_and_watches_do_not_tell_either(site: Site) -> None:
    writer, reader, watcher, other = [await site.wire() for _ in range(4)]
    assert await writer("SET", "k", "old") == b"OK"
    assert await watcher("WATCH", "k") == b"OK"
    for ops in site.bench.ops[:2]:
        ops.stall(frozenset({"pwrite"}))
    writer.send("SET", "k", "new")
    await asyncio.to_thread(site.bench.ops[0].stalled.wait, SOON_S)
    for wire in (reader, watcher):
        assert await wire("MULTI") == b"OK"
        assert await wire("GET", "k") == b"QUEUED"
        wire.send("EXEC")
    for _ in range(20):
        await other("PING")
    assert reader.replies.empty() and watcher.replies.empty()
    for ops in site.bench.ops:
        ops.heal()
    assert await reader.receive() == [b"new"]
    assert await watcher.receive() is None, "the watch broke"
    assert await writer.receive() == b"OK"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
async def test_one_failing_zone_stops_nobody_and_heals(site: Site, code: int) -> None:
    wire = await site.wire()
    assert await wire("SET", "k", "0") == b"OK"
    site.bench.ops[1].fail(code)
    for n in range(1, 20):
        assert await wire("SET", "k", n) == b"OK"
    info = await site.server.node.info()
    assert [zone.state for zone in info.zones].count("up") == 2
    site.bench.ops[1].heal()
    async with asyncio.timeout(SOON_S):
        while [zone.state for zone in (await site.server.node.info()).zones].count("up") < 3:
            await wire("INCR", "healing")
    site.bench.ops[0].fail(code)
    assert await wire("SET", "k", "20") == b"OK", "the healed zone counts again"


@pytest.mark.parametrize("site", [300], indirect=True)
async def test_two_zones_down_ends_in_unknown_outcomes_and_comes_back(site: Site) -> None:
    writer, reader, late = await site.wire(), await site.wire(), await site.wire()
    assert await writer("SET", "clean", "1") == b"OK"
    for ops in site.bench.ops[1:]:
        ops.fail(errno.EIO)
    writer.send("SET", "k", "1")
    writer.send("PING")
    late.send("GET", "k")
    for wire in (writer, late):
        unknown = await wire.receive()
        assert isinstance(unknown, hiredis.ReplyError)
        assert str(unknown).startswith("UNKNOWN the outcome of this command is unknown: no majority of zones")
    assert isinstance(await writer.receive(), hiredis.ReplyError), "replies keep their order and number"
    assert await reader("GET", "clean") == b"1"
    for ops in site.bench.ops:
        ops.heal()
    await eventually(reader, "GET", "k", reply=b"1")
    await eventually(writer, "SET", "k", "2", reply=b"OK")
    log = site.bench.open()
    replica = Engine(Config(), site.server.node.engine.commit)
    await Follower(log, replica).rebuild()
    assert replica.digest() == site.server.node.engine.digest()


@pytest.mark.parametrize("site", [300], indirect=True)
async def test_a_primary_that_alone_loses_its_zones_answers_nothing_old_while_another_one_writes(site: Site) -> None:
    wire = await site.wire()
    assert await wire("CONFIG", "GET", "primary-serve-stale-data") == [b"primary-serve-stale-data", b"no"]
    assert await wire("SET", "k", "old") == b"OK"
    for ops in site.bench.ops:
        ops.fail(errno.EACCES)  # for this process; the zones are as sound as before
    other = Server(site.bench.url, Config(), port=0)
    try:
        await other.start()  # by force: it waits until the lease has lapsed
        there = AsyncWire(*await asyncio.open_connection("127.0.0.1", other.port))
        assert await there("SET", "k", "new") == b"OK"
        for _ in range(3):
            found = await wire("GET", "k")
            assert str(found).startswith("MASTERDOWN "), found
        await there.close()
        for ops in site.bench.ops:
            ops.heal()
        await asyncio.wait_for(wire.pump, SOON_S)  # a primary that is none any more closes its clients
        again = await site.wire()
        await eventually(again, "GET", "k", reply=b"new")
        assert site.server.node.engine.digest() == other.node.engine.digest()
    finally:
        await other.close()


async def test_a_hand_over_that_waits_for_the_zones_is_called_off(site: Site) -> None:
    writer, admin = await site.wire(), await site.wire()
    other = json.dumps(Member("other", "127.0.0.1:1").describe())
    assert await admin("EVENTDB.ANNOUNCE", other) == 0
    for ops in site.bench.ops[1:]:
        ops.stall(frozenset({"pwrite"}))
    writer.send("SET", "k", "accepted")
    await asyncio.to_thread(site.bench.ops[1].stalled.wait, SOON_S)
    await asyncio.to_thread(site.bench.ops[2].stalled.wait, SOON_S)
    assert await admin("FAILOVER", "TIMEOUT", 60_000) == b"OK"
    writer.send("SET", "k", "waits")
    assert b"master_failover_state:waiting-for-sync" in await info(admin)
    assert str(await admin("FAILOVER")) == "ERR FAILOVER already in progress."
    assert await admin("FAILOVER", "ABORT") == b"OK"
    assert str(await admin("FAILOVER", "ABORT")) == "ERR No failover in progress."
    assert b"master_failover_state:no-failover" in await info(admin)
    for ops in site.bench.ops:
        ops.heal()
    assert [await writer.receive(), await writer.receive()] == [b"OK", b"OK"], "it is the primary as before"
    assert await writer("GET", "k") == b"waits"


async def test_a_hand_over_that_has_not_begun_is_called_off(site: Site) -> None:
    admin = await site.wire()
    await admin("EVENTDB.ANNOUNCE", json.dumps(Member("other", "127.0.0.1:1").describe()))
    admin.writer.write(encode("FAILOVER") + encode("FAILOVER", "ABORT"))
    assert [await admin.receive(), await admin.receive()] == [b"OK", b"OK"]
    assert await admin("SET", "k", "v") == b"OK"
    assert b"master_failover_state:no-failover" in await info(admin)


async def info(wire: AsyncWire) -> bytes:
    found = await wire("INFO", "replication")
    assert isinstance(found, bytes) and b"role:master" in found
    return found


@pytest.mark.parametrize("site", [300], indirect=True)
async def test_a_write_of_unknown_outcome_may_be_asked_about(site: Site) -> None:
    first, second, asking = [await site.wire() for _ in range(3)]
    assert await first("EVENTDB.ONCE", "before", "INCR", "n") == 1
    for ops in site.bench.ops[:2]:
        ops.stall(frozenset({"pwrite"}))
    for wire in (first, second):
        assert str(await wire("EVENTDB.ONCE", "t", "INCR", "n")).startswith("UNKNOWN"), "nobody hears of it yet"
    assert str(await asking("EVENTDB.OUTCOME", "t")).startswith("UNKNOWN")
    assert str(await asking("EVENTDB.OUTCOME", "never used")).startswith("UNKNOWN"), "what is pending is not settled"
    for ops in site.bench.ops:
        ops.heal()
    async with asyncio.timeout(SOON_S):
        while isinstance(found := await second("EVENTDB.ONCE", "t", "INCR", "n"), hiredis.ReplyError):
            assert str(found).startswith(("UNKNOWN", "MASTERDOWN")), found
    assert found == 2
    outcome, absent = await asking("EVENTDB.OUTCOME", "t"), await asking("EVENTDB.OUTCOME", "never used")
    assert isinstance(outcome, list) and outcome[:2] == [b"applied", 2] and outcome[3] == 2
    assert absent == [b"absent", 2, 0]
    assert await first("GET", "n") == b"2"


@pytest.mark.parametrize("left", [(), (2,)])
async def test_a_node_that_stepped_down_shows_nothing_older_than_what_it_has_shown(
    site: Site, caplog: pytest.LogCaptureFixture, left: tuple[int, ...]
) -> None:
    """No zone answers, or one that was away when the key was written: an empty log would be a plausible lie."""
    node, ops = site.server.node, site.bench.ops
    wire = await site.wire()
    ops[2].fail(errno.EIO)
    assert await wire("SET", "k", "1") == b"OK"
    for failing in ops:
        failing.fail(errno.EIO)
    node._step_down()
    await until(lambda: "cannot be followed now: no zone can be read" in caplog.text or node.role == "replica")
    for index in left:
        ops[index].heal()
    await until(lambda: node._behind or node.role == "replica" or not left)
    late = await site.wire()
    reply = await late("GET", "k")
    assert isinstance(reply, hiredis.ReplyError) and str(reply).startswith("LOADING"), reply
    for failing in ops:
        failing.heal()
    await eventually(late, "GET", "k", reply=b"1")
