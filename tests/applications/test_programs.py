"""Programs written for Redis print the same on eventdb: each runs on both servers, side by side, and is compared.

They are in tests/applications/programs/. Those for Node want `make clients`, and so do those for Python in OLDER, whose
libraries want an older redis-py than the tests' own; the others skip where their library is not installed.
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
    "celery_jobs.py": ["celery"],
    "django_caches.py": ["django", "django_redis"],
    "channel_layers.py": ["channels", "channels_redis"],
    "taskiq_jobs.py": ["taskiq_redis"],
    "arq_jobs.py": ["arq"],
    "socketio_rooms.py": ["socketio"],
    "dramatiq_jobs.py": ["dramatiq"],
    "saq_jobs.py": ["saq"],
}
OLDER = {"arq_jobs.py", "socketio_rooms.py", "dramatiq_jobs.py", "saq_jobs.py"}
LIMIT_S = 60

pytestmark = [pytest.mark.redis, pytest.mark.slow]


def installed(program: str, library: str) -> bool:
    if program in OLDER:
        return (BUILD / "python" / library).exists()
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
    if program in OLDER:
        env["PYTHONPATH"] = str(BUILD / "python")
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


def digest_between_two_writes(port: int) -> tuple[int, str]:
    """An offset, and the server's digest of the state after it: keys go on to expire, and what a program's closed
    connections had sent is still run."""
    found: list[tuple[int, str]] = []
    with Wire(port) as wire:

        def nothing_happened() -> bool:
            before, digest, after = wire("EVENTDB.OFFSET"), wire("EVENTDB.DIGEST"), wire("EVENTDB.OFFSET")
            assert isinstance(before, list) and isinstance(digest, bytes)
            found.append((int(before[1]), digest.decode()))
            return before == after

        wait_until(nothing_happened, what="no write comes between the offset and its digest")
    return found[-1]


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
    offset, live = digest_between_two_writes(server.port)
    server.kill()
    shown = subprocess.run(
        [sys.executable, "-m", "eventdb", "log", "digest", "--log", server.log_url, "--at", str(offset)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert live in shown.stdout
