"""BGSAVE, SAVE, LASTSAVE and INFO of a node with a store for snapshots; a real server loads what was saved."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import hiredis
import pytest

from eventdb.history.view import View
from eventdb.replay import snapshots
from eventdb.replay.manifest import Manifest
from eventdb.replay.stores import open_store
from eventdb.server.server import Server
from tests.conftest import answers_ping, free_port, wait_until
from tests.kit import differential
from tests.kit.nodes import Nodes
from tests.kit.wire import Wire


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saving")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with Nodes(folder, snapshot_store=str(folder / "store")) as nodes:
        yield nodes.start("first")


def persistence(wire: Wire) -> dict[str, str]:
    text = wire("INFO", "persistence")
    assert isinstance(text, bytes)
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)  # type: ignore[misc]


def newest(store: str) -> Manifest:
    found = asyncio.run(snapshots.listed(open_store(store)))[0]
    assert isinstance(found, Manifest)
    return found


def test_saving_in_the_background(server: Server, folder: Path) -> None:
    with Wire(server.port) as wire:
        before = persistence(wire)
        assert (before["rdb_bgsave_in_progress"], before["rdb_last_bgsave_time_sec"]) == ("0", "-1")
        assert wire("LASTSAVE") == 0  # nothing was ever saved
        for n in range(100):
            wire("SET", f"key:{n}", n)
        began = int(time.time())
        assert wire("BGSAVE") == b"Background saving started"
        assert persistence(wire)["rdb_bgsave_in_progress"] == "1"
        for command in ("BGSAVE", "SAVE"):
            assert str(wire(command)) == "ERR Background save already in progress"
        wire("SET", "while", "it runs")
        wait_until(lambda: persistence(wire)["rdb_bgsave_in_progress"] == "0", what="the snapshot is made")
        after = persistence(wire)
        assert (after["rdb_last_bgsave_status"], after["rdb_saves"]) == ("ok", "1")
        assert int(after["rdb_last_bgsave_time_sec"]) >= 0
        last = wire("LASTSAVE")
        assert isinstance(last, int) and began <= last == int(after["rdb_last_save_time"])
        made = newest(str(folder / "store"))
        assert made.key_count >= 100 and made.verified // 1000 == last
        assert after["rdb_changes_since_last_save"] == str(server.node.engine.commit.offset - made.offset)


@pytest.mark.redis
def test_a_saved_state_is_loaded_by_a_real_server(server: Server, folder: Path, tmp_path: Path) -> None:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    commands = [
        ("SET", "s", "text"), ("SET", "n", "17", "PXAT", "4000000000000"), ("RPUSH", "l", "a", "b"),
        ("SADD", "set", "x", "y"), ("HSET", "h", "f", "1"), ("ZADD", "z", "1.5", "m"), ("XADD", "st", "1-1", "f", "v"),
        ("XGROUP", "CREATE", "st", "g", "0"), ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "st", ">"),
    ]  # fmt: skip
    asked = [
        ("GET", "s"), ("PEXPIRETIME", "n"), ("LRANGE", "l", "0", "-1"), ("SCARD", "set"), ("HGETALL", "h"),
        ("ZRANGE", "z", "0", "-1", "WITHSCORES"), ("XRANGE", "st", "-", "+"), ("DBSIZE",), ("XLEN", "st"),
        ("XPENDING", "st", "g"),
    ]  # fmt: skip
    with Wire(server.port) as wire:
        wire("FLUSHALL")
        for command in commands:
            wire(*command)
        assert wire("SAVE") == b"OK"
        ours = [wire(*command) for command in asked]

        async def export() -> None:
            store = open_store(str(folder / "store"))
            with (tmp_path / "dump.rdb").open("wb") as file:
                await snapshots.export(store, await snapshots.find(store, "newest"), file.write)

        asyncio.run(export())
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
        process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, cwd=tmp_path)
        try:
            wait_until(lambda: answers_ping(port), 30, "redis-server answers")
            with Wire(port) as theirs:
                assert [theirs(*command) for command in asked] == ours
        finally:
            process.terminate()
            process.wait(10)


def test_a_save_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with Nodes(tmp_path, snapshot_store=str(tmp_path / "file")) as nodes, Wire(nodes.start("one").port) as wire:
        wire("SET", "k", "v")
        reply = wire("SAVE")
        assert isinstance(reply, hiredis.ReplyError) and "no snapshot was made" in str(reply)
        assert str(tmp_path / "file") in str(reply)
        assert persistence(wire)["rdb_last_bgsave_status"] == "err" and wire("LASTSAVE") == 0


def test_a_log_in_memory_is_saved_by_a_thread_and_a_later_start_finds_it(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with Nodes(tmp_path, snapshot_store=store) as nodes:
        nodes.url = "memory:saving"
        server = nodes.start("one")
        with Wire(server.port) as wire:
            wire("SET", "k", "v")
            assert wire("SAVE") == b"OK"
            last = wire("LASTSAVE")
            digest = server.node.engine.digest()
        again = nodes.start("two")
        with Wire(again.port) as wire:
            wire("LASTSAVE")  # it looks
            wait_until(lambda: wire("LASTSAVE") == last, what="it has looked into the store")
    view = View()
    made = newest(store)
    asyncio.run(snapshots.load(open_store(store), made, view))
    assert view.digest() == made.digest == digest


def test_errors_of_the_command_line_are_those_of_redis(redis_server: tuple[str, int], server: Server) -> None:
    with (
        closing(differential.Wire(redis_server)) as theirs,
        closing(differential.Wire(("127.0.0.1", server.port))) as ours,
    ):
        for command in (("BGSAVE", "x"), ("BGSAVE", "SCHEDULE", "x"), ("SAVE", "x"), ("LASTSAVE", "x")):
            assert ours.call(*command) == theirs.call(*command)
