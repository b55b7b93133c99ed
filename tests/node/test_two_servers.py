"""Two servers on the same files: the later claim wins, the earlier never acknowledges again, no byte is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import hiredis
import pytest

from tests.conftest import Server, StartServer, wait_until
from tests.kit.wire import Load, Wire


def role(server: Server) -> str:
    with Wire(server.port) as wire:
        info = wire("INFO", "replication")
    assert isinstance(info, bytes)
    return "replica" if b"role:slave" in info and b"master_sync_in_progress:0" in info else "primary"


def digest(server: Server) -> object:
    with Wire(server.port) as wire:
        return wire("EVENTDB.DIGEST")


def offsets_in_log(url: str) -> list[int]:
    """Every offset in the history, as `eventdb log tail` prints them."""
    command = [sys.executable, "-m", "eventdb", "log", "tail", "--log", url, "--from", "1", "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    return [line["offset"] for line in lines if "offset" in line]  # the others are claims


@pytest.mark.parametrize("paused", [False, True], ids=["running", "stopped-across-the-claim"])
def test_the_second_server_fences_the_first(eventdb_server: StartServer, tmp_path: Path, paused: bool) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    first = eventdb_server(url)
    loads = [Load(first.port, f"load{i}", 4) for i in range(4)]
    for load in loads:
        load.start()
    wait_until(lambda: all(load.pushed > 20 for load in loads), what="the load is under way")
    if paused:
        os.kill(first.pid, signal.SIGSTOP)
    second = eventdb_server(url, "--role", "primary")
    with Wire(second.port) as wire:
        assert wire("SET", "written", "by the second") == b"OK"
        known = {load.list: wire("LLEN", load.list) for load in loads}
        if paused:
            os.kill(first.pid, signal.SIGCONT)
        over = "every client of the first hears an error, or is closed when it is owed nothing"
        wait_until(lambda: all(load.errors or not load.is_alive() for load in loads), what=over)
        for load in loads:
            assert not load.errors or load.errors[0].startswith(("UNKNOWN", "LOADING", "READONLY")), load.errors[0]
            with contextlib.suppress(OSError):  # it was closed: the node is the primary no more
                load.wire.socket.shutdown(2)
        for load in loads:
            load.join(10)
            load.check(wire)
        assert {load.list: wire("LLEN", load.list) for load in loads} == known, "history after the claim changed"

    wait_until(lambda: role(first) == "replica", what="the first follows")
    with Wire(first.port) as wire:
        refused = wire("SET", "written", "by the first")
        assert isinstance(refused, hiredis.ReplyError)
        assert str(refused) == "READONLY You can't write against a read only replica."
    with Wire(second.port) as wire:
        assert wire("SET", "after", "1") == b"OK"
    wait_until(lambda: digest(first) == digest(second), what="the first has caught up")
    found = offsets_in_log(url)
    assert found == list(range(1, len(found) + 1)), "an offset is missing or doubled"


def test_a_server_on_a_taken_port_does_not_take_the_log(eventdb_server: StartServer, tmp_path: Path) -> None:
    url = f"quorum:{tmp_path / 'data'}"
    first = eventdb_server(url)
    command = [sys.executable, "-m", "eventdb", "serve", "--log", url, "--port", str(first.port)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert str(first.port) in second.stderr and "Traceback" not in second.stderr
    with Wire(first.port) as wire:
        assert wire("SET", "k", "v") == b"OK"
