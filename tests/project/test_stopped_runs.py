"""A test run that is stopped by SIGTERM, as a CI job past its time is, leaves no server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, wait_until

PLAIN = """
import pathlib, time

def test_that_takes_long(eventdb_server):
    server = eventdb_server()
    pathlib.Path("pids").write_text(str(server.pid))
    time.sleep(100)
"""
IN_A_LOOP = """
import asyncio, pathlib

async def test_that_takes_long(eventdb_server, redis_server):
    servers = [eventdb_server(), eventdb_server()]
    pathlib.Path("pids").write_text(" ".join(str(server.pid) for server in servers))
    await asyncio.sleep(100)
"""
SETTINGS = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nmarkers =\n  redis\n"


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("text", [PLAIN, IN_A_LOOP], ids=["plain", "in a loop"])
def test_a_run_stopped_by_sigterm_leaves_no_server(text: str, tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(text)
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "test_inner.py"]
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = tmp_path / "pids"
    pids: list[int] = []
    try:
        wait_until(lambda: run.poll() is not None or (found.exists() and found.read_text() != ""), 60, "a server runs")
        assert run.poll() is None, run.communicate()[0].decode()
        pids = [int(pid) for pid in found.read_text().split()]
        assert all(is_running(pid) for pid in pids)
        run.send_signal(signal.SIGTERM)
        run.send_signal(signal.SIGTERM)  # who is in a hurry sends it twice
        output = run.communicate(timeout=60)[0].decode()
        assert "SIGTERM" in output or "Interrupted" in output or "KeyboardInterrupt" in output, output
        assert [pid for pid in pids if is_running(pid)] == [], output
    finally:
        run.kill()
        run.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
