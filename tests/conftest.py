"""What every test may ask for: a real redis-server, eventdb as a process of its own; and three guards.

Stale compiled modules are removed before anything is imported, so that the sources under test are the ones edited.
With EVENTDB_REQUIRE_ALL=1 (as in .ci/run) a test that is skipped because a component is missing fails instead.
A run that is stopped by SIGTERM ends as one that Ctrl-C stops: with its fixtures, so that no server outlives it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(rb"ready on 127\.0\.0\.1:(\d+)[ ,\n]")
# In a reason to skip: the component is missing. Any other skip (root may write anywhere, say) is taken as it is.
MISSING = re.compile(
    r"missing|not installed|not found|not available|could not import|needs a|no C compiler|takes root|may open only",
    re.I,
)


def _setup_module() -> dict[str, object]:
    """The names of setup.py, which owns the list of compiled files and their stamp."""
    import runpy

    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup")


def _guard_the_build() -> str:
    """Make sure that the build asked for by EVENTDB_BUILD runs; returns what was done, for the report's header."""
    setup = _setup_module()
    wanted = os.environ.get("EVENTDB_BUILD", "")
    files, current = setup["compiled_files"](), setup["is_current"]()  # type: ignore[operator]
    if wanted == "compiled" and not current:
        raise pytest.UsageError("EVENTDB_BUILD=compiled, but the compiled modules are missing or stale: make build")
    if wanted == "pure" and files:
        raise pytest.UsageError("EVENTDB_BUILD=pure, but there are compiled modules in the tree: make pure")
    if not files:
        return "pure Python"
    if current:
        return "compiled"
    setup["remove_compiled"]()  # type: ignore[operator]
    return "pure Python (stale compiled modules were removed; `make build` makes new ones)"


BUILD = _guard_the_build()

from eventdb import commands  # noqa: E402 - what is imported is guarded
from tests.kit.kafka_brokers import kafka, opened, three_brokers  # noqa: E402, F401 - fixtures; they import what is guarded

EXAMPLES = int(os.environ.get("EVENTDB_EXAMPLES", 100))
# No deadline: a busy machine is no counterexample.
settings.register_profile("eventdb", max_examples=EXAMPLES, deadline=None, print_blob=True)
settings.load_profile("eventdb")
commands.load()  # a test may make a node or an engine by itself, where a server would load them


def pytest_configure() -> None:
    """A shell that starts us in the background has SIGINT ignored; the programs under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a process of eventdb, so that `make check` leaves it out."""
    for item in items:
        if "eventdb_server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: no garbage collection has to look at it again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """Before each test: a server that ran in this process may have taken its handler, and this one, away."""
    signal.signal(signal.SIGTERM, _end_as_by_ctrl_c)


def _end_as_by_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    """Once: another SIGTERM must not keep the fixtures from ending what they have started."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt("SIGTERM")


def pytest_report_header() -> str:
    return f"eventdb build: {BUILD}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under EVENTDB_REQUIRE_ALL=1 a missing component is a failure, with the skip's reason as its text."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("EVENTDB_REQUIRE_ALL") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if MISSING.search(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped under EVENTDB_REQUIRE_ALL=1: {reason}"
    return report


def free_port(*, bus: bool = False) -> int:
    """A loopback port nobody listens on now, and none of those that the system gives to the next connection.

    bus: the same of the port 10,000 above.
    """
    chance = random.SystemRandom()  # Hypothesis makes the usual one repeat itself
    while True:
        port = chance.randrange(10_000, 22_000 if bus else 32_000)
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for number in (port, port + 10_000) if bus else (port,):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", number))
            return port


def wait_until(condition: Callable[[], bool], seconds: float = 10, what: str = "condition") -> None:
    """Poll a real process until the condition holds; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def answers_ping(port: int) -> bool:
    """A server is there and has loaded; it may ask for a password."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as conn:
        conn.sendall(b"PING\r\n")
        return conn.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    return False


def start_redis(folder: Path, *options: str, bus: bool = False) -> tuple[subprocess.Popen[bytes], int]:
    """A real redis-server without persistence that answers, and its port. bus: it needs the port 10,000 above, too."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    for _ in range(5):  # somebody else may take a free port before it is bound
        port = free_port(bus=bus)
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
        wait_until(lambda: process.poll() is not None or answers_ping(port), 30, "redis-server answers")  # noqa: B023
        if process.poll() is None:
            return process, port
    pytest.fail("redis-server does not start")


@contextlib.contextmanager
def _redis(*options: str) -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        process, port = start_redis(Path(folder), *options)
        try:
            yield "127.0.0.1", port
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[tuple[str, int]]:
    """A real redis-server on a free loopback port, without persistence; (host, port). Nobody flushes it for you."""
    with _redis() as address:
        yield address


@pytest.fixture(scope="session")
def still_redis() -> Iterator[tuple[str, int]]:
    """Another one, which expires only what is looked at: no cycle of its own comes between two steps of a test."""
    with _redis("--enable-debug-command", "yes") as address:
        with socket.create_connection(address, timeout=10) as conn:
            conn.sendall(b"DEBUG SET-ACTIVE-EXPIRE 0\r\n")
            assert conn.recv(16) == b"+OK\r\n"
        yield address


class Server:
    """`python -m eventdb serve` as a process. Its output goes to a file, so that it never blocks on a pipe."""

    def __init__(self, log: str, folder: Path, options: tuple[str, ...], env: dict[str, str]) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.log_url = log
        self.output = folder / "output.txt"
        self._command = [sys.executable, "-m", "eventdb", "serve", "--log", log, *options]
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **env}
        self._cwd = folder
        # One that no connection takes before it is started again; beside a TLS port 0 means that there is no plain one.
        tls = any("tls-port" in option or option == "--config-file" for option in options)
        self.process = self._start(0 if tls else free_port())

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as sink:
            command = [*self._command, "--port", str(port)]
            return subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=self._cwd, env=self._env)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def text(self) -> str:
        """What it printed since its last start."""
        return self.output.read_text(errors="replace")

    def wait_ready(self, seconds: float = 30) -> Server:
        """Return once it listens; `port` is known from then on."""
        deadline = time.monotonic() + seconds
        while (found := READY.search(self.output.read_bytes())) is None:
            if self.process.poll() is not None:
                pytest.fail(f"eventdb ended with {self.process.returncode} before it was ready:\n{self.text}")
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"eventdb was not ready within {seconds} s:\n{self.text}")
            time.sleep(0.01)
        self.port = int(found[1])
        return self

    def kill(self) -> None:
        """SIGKILL, as a power cut would: no goodbye to anybody."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM; returns the exit code of the graceful shutdown."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(seconds)

    def restart(self, seconds: float = 30) -> Server:
        """Start again on the same log and the same port, after kill() or stop()."""
        assert self.process.poll() is not None, "still running"
        self.process = self._start(self.port)
        return self.wait_ready(seconds)


StartServer = Callable[..., Server]


@pytest.fixture
def eventdb_server(tmp_path: Path) -> Iterator[StartServer]:
    """Factory: `eventdb_server(log="quorum:…", options=(...), env={...}, wait=True)` -> a ready Server.

    Without `log` each gets quorum files of its own. All are killed when the test ends.
    """
    started: list[Server] = []

    def start(
        log: str | None = None, *options: str, env: dict[str, str] | None = None, wait: bool = True, seconds: float = 30
    ) -> Server:
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        server = Server(log or f"quorum:{folder / 'data'}", folder, options, env or {})
        started.append(server)
        return server.wait_ready(seconds) if wait else server

    yield start
    for server in started:
        server.kill()
