"""Programs written for Redis print the same on eventdb: each runs on both servers, side by side, and is compared.

They are in tests/applications/programs/. Those for Node want `make clients`; those for Python skip where their library
is not installed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, StartServer, wait_until
from tests.kit.differential import Address
from tests.kit.wire import Wire

PROGRAMS = ROOT / "tests" / "applications" / "programs"
BUILD = ROOT / "build" / "clients"
NEEDS = {  # program: the libraries that it imports
    "bullmq.mjs": ["bullmq"],
    "libraries.mjs": ["bull", "bee-queue", "ioredis", "redis", "rate-limiter-flexible", "connect-redis"],
    "huey_jobs.py": ["huey"],
    "rate_limits.py": ["limits"],
}
LIMIT_S = 60
COUNT = "return #redis.call('KEYS', '*')"
# So that nothing expires between the two digests.
KEEP = "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('PERSIST', key) end"

pytestmark = [pytest.mark.redis, pytest.mark.slow]


def installed(program: str, library: str) -> bool:
    if program.endswith(".py"):
        return importlib.util.find_spec(library) is not None
    return (BUILD / "node_modules" / library).exists()


def lacking(program: str) -> str:
    """Why the program cannot run here, or ""."""
    if program.endswith(".mjs") and shutil.which("node") is None:
        return "there is no node here"
    missing = [name for name in NEEDS[program] if not installed(program, name)]
    return f"not installed: {' '.join(missing)}" if missing else ""


def start(program: str, port: int) -> subprocess.Popen[str]:
    interpreter = [sys.executable, "-W", "ignore"] if program.endswith(".py") else ["node"]
    env = {**os.environ, "CLIENTS_BUILD": str(BUILD)}
    command = [*interpreter, str(PROGRAMS / program), str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def printed(process: subprocess.Popen[str]) -> list[str]:
    try:
        text, _ = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, text
    return text.splitlines()


@pytest.mark.parametrize("program", list(NEEDS))
def test_a_program_prints_the_same_on_redis_and_on_eventdb(
    eventdb_server: StartServer, redis_server: Address, program: str
) -> None:
    if reason := lacking(program):
        pytest.skip(reason)
    server = eventdb_server()
    with Wire(redis_server[1]) as wire:
        wire("FLUSHALL")
    theirs, ours = start(program, redis_server[1]), start(program, server.port)
    try:
        expected, found = printed(theirs), printed(ours)
    finally:
        theirs.kill()
        ours.kill()
    assert expected
    assert not [line for line in expected if "failed: " in line]
    assert found == expected
    with Wire(server.port) as wire:
        wire("EVAL", KEEP, "0")
        wait_until(
            lambda: wire("DBSIZE") == wire("EVAL", "return #redis.call('KEYS', '*')", "0"), what="all is deleted"
        )
        live = wire("EVENTDB.DIGEST")
    server.kill()
    server.restart()
    with Wire(server.port) as wire:
        assert wire("EVENTDB.DIGEST") == live
