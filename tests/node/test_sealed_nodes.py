"""Nodes on one sealed log: they follow, take over, give the state, and do not start without its keys."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import StartServer, wait_until
from tests.kit.keyring import keyring_file
from tests.kit.nodes import Nodes
from tests.kit.wire import Wire
from tests.node.test_giving import received, state_of

SECRET = b"correct horse battery staple"


def test_nodes_share_a_sealed_log_and_none_starts_without_its_keys(eventdb_server: StartServer, tmp_path: Path) -> None:
    keys = keyring_file(tmp_path / "keys.json", 1)
    log = f"quorum:{tmp_path}/data"
    first = eventdb_server(log, "--encryption-keys", keys)
    second = eventdb_server(log, "--config", f"encryption-keys={keys}")
    with Wire(first.port) as wire:
        for number in range(100):
            assert wire("SET", f"k{number}", SECRET) == b"OK"
        digest = wire("EVENTDB.DIGEST")
        assert wire("CONFIG", "GET", "encryption-keys") == [b"encryption-keys", keys.encode()]
    with Wire(second.port) as wire:
        assert wire("EVENTDB.WAITFOR", 100, 10_000)
        assert wire("EVENTDB.DIGEST") == digest
        keyring_file(tmp_path / "keys.json", 1, 2)
        first.kill()
        wait_until(lambda: wire("SET", "after", SECRET) == b"OK")
        digest = wire("EVENTDB.DIGEST")
        with Wire(second.port) as other:
            _, data = received(other, "SYNC")
        assert state_of(data).digest().encode() == digest, "the program that makes the file has the keys too"
    assert second.stop() == 0
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_file() or SECRET not in path.read_bytes()
    refused = {
        eventdb_server(log, *options, wait=False): text
        for options, text in (
            ((), "sealed with key 1, and no keys are given (encryption-keys, or EVENTDB_ENCRYPTION_KEYS)"),
            (("--encryption-keys", keyring_file(tmp_path / "other.json", 7)), "sealed with key 1, which is not there"),
            (("--encryption-keys", "file:/no/such/file"), "/no/such/file: No such file or directory"),
        )
    }
    for server, text in refused.items():
        assert server.process.wait(30) == 1
        assert text in server.text and "Traceback" not in server.text, server.text


def test_the_programs_that_a_node_starts_have_its_keys(tmp_path: Path) -> None:
    """SAVE and SYNC read the log in a process of their own; this process's environment says nothing of keys."""
    keys = keyring_file(tmp_path / "keys.json", 3)
    with Nodes(tmp_path, encryption_keys=keys, snapshot_store=str(tmp_path / "store")) as nodes:
        server = nodes.start("first")
        with Wire(server.port, 60) as wire:
            wire("SET", "k", SECRET)
            digest = wire("EVENTDB.DIGEST")
            assert wire("SAVE") == b"OK"
        with Wire(server.port, 60) as wire:
            _, data = received(wire, "SYNC")
    assert state_of(data).digest().encode() == digest
    stored = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(stored) == 2 and not any(SECRET in found for found in stored)
    assert sorted(b'"key_id": "3"' in found for found in stored) == [False, True]


def test_a_sealed_log_is_restored_in_place(eventdb_server: StartServer, tmp_path: Path) -> None:
    """The process that compares is given the keys, which only the server's setting names."""
    keys = keyring_file(tmp_path / "keys.json", 1)
    server = eventdb_server(f"quorum:{tmp_path / 'data'}", "--encryption-keys", keys)
    with Wire(server.port) as wire:
        wire("SET", "k", "before")
        wire("EVENTDB.MARK", "deploy")
        wire("SET", "k", "after")
        assert isinstance(wire("EVENTDB.RESTORE", "TO", "MARK", "deploy"), list)
        assert wire("GET", "k") == b"before"
