"""DEBUG RELOAD on a real node: the log's state takes the place of the one in memory, unless they differ."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from eventdb.protocol.replies import error
from tests.kit.differential import Wire
from tests.kit.nodes import Nodes

OK = b"+OK\r\n"


def test_a_state_that_is_not_the_logs_is_reported_and_kept(tmp_path: Path) -> None:
    with Nodes(tmp_path, enable_debug_command="yes") as nodes:
        server = nodes.start("a")
        keyspace = server.node.engine.store.keyspace
        with closing(Wire(("127.0.0.1", server.port))) as wire:
            for line in ("SET k v", "HSET h f v", "ZADD z 1 m", "PEXPIRE h 1000000"):
                wire.call(*line.split())
            values = keyspace.dbs[0].values
            assert wire.call("DEBUG", "RELOAD") == OK
            assert keyspace.dbs[0].values is not values and keyspace.dbs[0].values.keys() == values.keys()
            assert keyspace.dbs[0].deadlines is not None and len(keyspace.dbs[0].deadlines) == 1
            theirs = keyspace.digest()
            keyspace.dbs[0].values[b"k"] = b"another"
            ours = keyspace.digest()
            text = f"ERR the state in memory ({ours}) is not that of the log ({theirs})"
            assert wire.call("DEBUG", "RELOAD") == error(text)
            assert wire.call("GET", "k") == b"$7\r\nanother\r\n"
            assert wire.call("SET", "k", "v") == OK and wire.call("DEBUG", "RELOAD") == OK


def test_a_replica_does_not_reload_and_one_reload_is_enough(tmp_path: Path) -> None:
    with Nodes(tmp_path, enable_debug_command="yes") as nodes:
        first = nodes.start("a")
        second = nodes.start("b", follow_only=True)
        with closing(Wire(("127.0.0.1", second.port))) as wire:
            assert b"only the primary rebuilds its state" in wire.call("DEBUG", "RELOAD")
        with closing(Wire(("127.0.0.1", first.port))) as wire, closing(Wire(("127.0.0.1", first.port))) as other:
            wire.call("DEBUG", "POPULATE", "20000")
            wire.send("DEBUG", "RELOAD")
            while b"blocked_clients:1" not in other.call("INFO", "clients"):
                pass
            assert other.call("DEBUG", "RELOAD") == error("ERR the state is being rebuilt already")
            assert other.call("DBSIZE") == b":20000\r\n"
            assert wire.reply() == OK
