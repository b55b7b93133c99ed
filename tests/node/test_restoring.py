"""EVENTDB.RESTORE on real nodes: the past becomes the present in one transaction, which can be undone likewise."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventdb
from eventdb.backends import open_log
from eventdb.engine.client import PAUSED
from eventdb.history.differing import Comparison, Counts
from eventdb.history.view import View
from eventdb.keyspace.choice import Choice
from eventdb.replay.follower import Follower
from eventdb.server.server import Server
from tests.conftest import StartServer
from tests.kit.harness import Local
from tests.kit.nodes import Nodes
from tests.kit.wire import Wire, encode


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as nodes:
        yield nodes


def facts(reply: object) -> dict[str, int]:
    assert isinstance(reply, list), reply
    return {name.decode(): n for name, n in zip(reply[::2], reply[1::2], strict=True)}


def restored(wire: Wire, *words: str | int) -> dict[str, int]:
    return facts(wire("EVENTDB.RESTORE", "TO", *words))


def data_digest(keyspace: object) -> list[int]:
    """Of what a whole restore brings back: keys and functions."""
    return [*(db.digest() for db in keyspace.dbs), keyspace.libraries.digest()]  # type: ignore[attr-defined]


def view_at(nodes: Nodes, offset: int | None = None) -> View:
    async def build() -> View:
        log, view = open_log(nodes.url), View()
        await Follower(log, view).rebuild(stop_offset=offset)
        await log.close()
        return view

    return nodes.run(build())


def live(server: Server) -> object:
    return server.node.engine.store.keyspace


def test_all_of_it_comes_back_and_can_be_undone(nodes: Nodes) -> None:
    server, replica = nodes.start("a"), nodes.start("b", follow_only=True)
    with Wire(server.port) as wire:
        for line in (
            "SET s 1", "SET t 1 PXAT 4000000000000", "RPUSH l a b c", "HSET h f v g w", "SADD z 1 2", "ZADD zz 1 m",
            "HPEXPIREAT h 4000000000000 FIELDS 1 f", "XADD x 1-1 f v", "XGROUP CREATE x g 0", "SELECT 3", "SET three 3",
            "SELECT 0", "SET gone 1", "SET same 1",
        ):  # fmt: skip
            wire(*line.split())
        wire("FUNCTION", "LOAD", "#!lua name=old\nredis.register_function('f', function() return 1 end)")
        cut = wire("EVENTDB.MARK", "before-deploy")
        assert isinstance(cut, int)
        for line in (
            "APPEND s 2", "PERSIST t", "LPOP l", "HDEL h g", "DEL z", "SET zz now-a-string", "XREADGROUP GROUP g c"
            " STREAMS x >", "SET new 1", "SWAPDB 3 4", "DEL gone", "FUNCTION DELETE old",
        ):  # fmt: skip
            wire(*line.split())
        wire("FUNCTION", "LOAD", "#!lua name=new\nredis.register_function('n', function() return 1 end)")
        before, spoilt = wire("EVENTDB.OFFSET")[0], wire("EVENTDB.DIGEST")  # type: ignore[index]
        dry = restored(wire, "MARK", "before-deploy", "DRYRUN")
        counts = {"changed": 6, "appeared": 3, "vanished": 2, "functions": 2}
        assert dry == {"cut": cut, "offset": 0, "before": before, **counts, "paused-ms": 0}
        assert wire("EVENTDB.DIGEST") == spoilt
        done = restored(wire, "MARK", "before-deploy")
        assert {name: done[name] for name in counts} == counts
        assert (done["cut"], done["before"], done["offset"]) == (cut, before, before + 1)
        assert data_digest(live(server)) == data_digest(view_at(nodes, cut).keyspace)
        assert view_at(nodes).digest() == wire("EVENTDB.DIGEST").decode()  # type: ignore[attr-defined]
        assert wire("FCALL", "f", 0) == 1
        nodes.applied(done["offset"])
        with Wire(replica.port) as other:
            assert other("EVENTDB.DIGEST") == wire("EVENTDB.DIGEST")
            assert "READONLY" in str(other("EVENTDB.RESTORE", "TO", "OFFSET", 1))
        undone = restored(wire, "OFFSET", before)
        assert wire("EVENTDB.DIGEST") == spoilt and undone["offset"] == done["offset"] + 1
        assert restored(wire, "OFFSET", before)["offset"] == undone["offset"], "nothing differs: nothing is written"


def test_chosen_keys_only(nodes: Nodes) -> None:
    server = nodes.start("a")
    with Wire(server.port) as wire:
        for line in ("MSET user:1 a user:2 b other c", "SELECT 1", "SET user:1 x", "SET cart:1 x"):
            wire(*line.split())
        cut = wire("EVENTDB.OFFSET")[0]  # type: ignore[index]
        wire("FUNCTION", "LOAD", "#!lua name=new\nredis.register_function('n', function() return 1 end)")
        wire("FLUSHALL")
        wire("SET", "user:3", "y")
        wire("SET", "cart:2", "y")
        assert restored(wire, "OFFSET", cut, "DB", 1, "KEYS", "user:*", "no")["vanished"] == 1
        assert sorted(wire("KEYS", "*")) == [b"cart:2", b"user:1"]  # type: ignore[call-overload]
        wire("SELECT", 0)
        assert wire("DBSIZE") == 0
        assert restored(wire, "OFFSET", cut, "KEYS", "user:?")["appeared"] == 2
        assert sorted(wire("KEYS", "*")) == [b"user:1", b"user:2"]  # type: ignore[call-overload]
        assert restored(wire, "OFFSET", cut, "DB", 0)["appeared"] == 1
        assert wire("FUNCTION", "LIST") != []
        assert view_at(nodes).digest().encode() == wire("EVENTDB.DIGEST")


def test_who_watches_waits_caches_and_listens_is_told(nodes: Nodes) -> None:
    server = nodes.start("a", {"notify-keyspace-events": "KEA"})
    with Wire(server.port) as wire, Wire(server.port) as watch, Wire(server.port) as block, Wire(server.port) as hear:
        wire("RPUSH", "l", "a")
        wire("SET", "k", 1)
        cut = wire("EVENTDB.OFFSET")[0]  # type: ignore[index]
        wire("DEL", "l")
        wire("SET", "k", 2)
        watch("WATCH", "k")
        watch("MULTI")
        watch("SET", "k", 3)
        hear("PSUBSCRIBE", "__keyevent@0__:*")
        block.send(b"*3\r\n$5\r\nBLPOP\r\n$1\r\nl\r\n$1\r\n0\r\n")
        while b"blocked_clients:1" not in wire("INFO", "clients"):  # type: ignore[operator]
            pass
        done = restored(wire, "OFFSET", cut)
        assert watch("EXEC") is None
        assert block.receive() == [b"l", b"a"]
        heard = [hear.receive()[2:] for _ in range(2)]  # type: ignore[index]
        assert sorted(heard) == [[b"__keyevent@0__:rpush", b"l"], [b"__keyevent@0__:set", b"k"]]
        assert wire("GET", "k") == b"1" and wire("EXISTS", "l") == 0
        assert wire("EVENTDB.DIGEST").decode() == view_at(nodes).digest()  # type: ignore[attr-defined]
        assert done["offset"] == cut + 3


def test_readers_see_all_of_it_or_nothing_and_writes_meanwhile_are_kept_or_undone_whole(nodes: Nodes) -> None:
    server = nodes.start("a")
    seed = random.randrange(1 << 30)
    print("seed", seed)
    keys = [f"k{n}" for n in range(300)]
    with Wire(server.port) as wire, Wire(server.port) as reader, Wire(server.port) as writer:
        wire("MSET", *(part for key in keys for part in (key, "old")))
        cut = wire("EVENTDB.OFFSET")[0]  # type: ignore[index]
        wire("MSET", *(part for key in keys for part in (key, "new")))
        rng = random.Random(seed)
        for _ in range(3):
            wire.send(
                b"*4\r\n$15\r\nEVENTDB.RESTORE\r\n$2\r\nTO\r\n$6\r\nOFFSET\r\n$%d\r\n%d\r\n" % (len(str(cut)), cut)
            )
            while len(found := set(reader("MGET", *keys))) == 1 and found == {b"new"}:  # type: ignore[call-overload]
                writer("SET", f"w{rng.randrange(9)}", rng.random())
            assert found == {b"old"}
            done = facts(wire.receive())
            assert done["changed"] == 300 and done["paused-ms"] < 5000
            assert view_at(nodes).digest().encode() == wire("EVENTDB.DIGEST")
            assert data_digest(view_at(nodes, done["offset"]).keyspace) == data_digest(view_at(nodes, cut).keyspace)
            wire("MSET", *(part for key in keys for part in (key, "new")))


@pytest.mark.slow
def test_a_server_killed_at_any_moment_has_all_of_it_or_nothing(eventdb_server: StartServer, tmp_path: Path) -> None:
    url, keys = f"quorum:{tmp_path / 'killed'}", [f"k{n}" for n in range(3000)]
    server = eventdb_server(url)
    with Wire(server.port) as wire:
        wire("MSET", *(part for key in keys for part in (key, "old" * 50)))
        cut = wire("EVENTDB.MARK", "m")
        wire("MSET", *(part for key in keys for part in (key, "new")))
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(3):
        with Wire(server.port) as wire, Wire(server.port) as watch:
            wire.send(encode("EVENTDB.RESTORE", "TO", "MARK", "m"))
            if rng.random() < 0.3:  # right after it
                while watch("GET", "k0") == b"new":
                    pass
            else:
                time.sleep(rng.random() * 1.2)
            server.kill()
        server = eventdb_server(url)
        with Wire(server.port) as wire:
            found = set(wire("MGET", *keys))  # type: ignore[call-overload]
            assert found in ({b"new"}, {b"old" * 50})
            assert restored(wire, "OFFSET", int(str(cut)))["cut"] == cut
            assert set(wire("MGET", *keys)) == {b"old" * 50}  # type: ignore[call-overload]
            wire("MSET", *(part for key in keys for part in (key, "new")))


def test_errors(nodes: Nodes) -> None:
    server = nodes.start("a")
    with Wire(server.port) as wire:
        wire("SET", "k", "v")
        for words, text in (
            (("OFFSET", 2), "there is no offset 2: the first transaction is 1, the last 1"),
            (("OFFSET", 0), "there is no offset 0"),
            (("MARK", "none"), "there is no mark of that name"),
            (("TIME", 1), "nothing was committed at or before"),
            (("WHEN", 1), "syntax error"),
            (("OFFSET", 1, "KEYS"), "syntax error"),
            (("OFFSET", 1, "DB", 16), "DB index is out of range"),
            (("OFFSET", "x"), "not an integer"),
        ):
            assert text in str(wire("EVENTDB.RESTORE", "TO", *words)), words
        assert wire("EVENTDB.OFFSET") == [1, 1]
        assert wire("SET", "k", "w") == b"OK"


def test_the_pause_of_an_administrator_outlasts_it(nodes: Nodes) -> None:
    server = nodes.start("a")
    with Wire(server.port) as wire, Wire(server.port) as admin:
        wire("SET", "k", "old")
        wire("SET", "k", "new")
        wire.send(encode("EVENTDB.RESTORE", "TO", "OFFSET", 1))
        assert admin("CLIENT", "PAUSE", 100_000, "WRITE") == b"OK"
        assert facts(wire.receive())["offset"] == 3
        assert server.node.engine.gate & PAUSED and not server.node.engine.pause.own.lasts
        wire.send(encode("SET", "k", "later"))
        assert admin("GET", "k") == b"old"
        assert admin("CLIENT", "UNPAUSE") == b"OK" and wire.receive() == b"OK"
        assert not server.node.engine.gate & PAUSED
        assert view_at(nodes).digest().encode() == admin("EVENTDB.DIGEST")


def test_a_pause_of_the_node_is_not_ended_by_clients_and_ends_by_itself() -> None:
    local = Local()
    engine = local.engine
    engine.pause_writes(1000)
    local("CLIENT", "PAUSE", 5, "WRITE")
    local("CLIENT", "UNPAUSE")
    assert engine.gate & PAUSED
    client = local.client
    assert engine.pause.stops(client, engine.commands[b"SET"], [b"SET", b"k", b"v"])
    assert not engine.pause.stops(client, engine.commands[b"GET"], [b"GET", b"k"])
    engine.resume_writes()
    assert not engine.gate & PAUSED


def test_inside_a_program() -> None:
    async def play() -> None:
        async with eventdb.open("memory:") as db:
            await db.execute("SET", "k", "old")
            await db.execute("EVENTDB.MARK", "m")
            await db.execute("SET", "k", "new")
            await db.execute("EVENTDB.RESTORE", "TO", "MARK", "m")
            assert await db.execute("GET", "k") == b"old"

    asyncio.run(play())


def test_what_is_written_between_the_two_comparisons_counts(nodes: Nodes) -> None:
    """SWAPDB and FLUSHDB touch every key; COPY, MOVE and RENAME name two."""
    server = nodes.start("a")
    with Wire(server.port) as wire:
        wire("MSET", "a", 1, "b", 1, "c", 1, "d", 1, "same", 1)
        cut = wire("EVENTDB.OFFSET")[0]  # type: ignore[index]
        wire("SET", "a", 2)

        async def compare() -> list[Counts]:
            log = open_log(nodes.url)
            comparison = Comparison(log, Choice(), None)
            found = [await comparison.begin(cut, cut + 1)]
            for lines in (
                ("SET a 1", "RENAME b new"),
                ("COPY c c DB 1", "MOVE d 2", "SET same 1"),
                ("SWAPDB 0 3",),
                ("FLUSHALL", "SET e 1"),
            ):
                with Wire(server.port) as other:
                    for line in lines:
                        await asyncio.to_thread(other, *line.split())
                found.append(await comparison.finish(server.node.engine.commit.durable_offset))
            await log.close()
            return found

        assert nodes.run(compare()) == [
            Counts(1, 0, 0, 0), Counts(0, 1, 1, 0), Counts(0, 2, 3, 0), Counts(0, 5, 6, 0), Counts(0, 5, 1, 0),
        ]  # fmt: skip
