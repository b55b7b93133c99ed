"""Start the servers that are compared: each a process on a free loopback port, with its files in a folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
START_S_MAX = 300


class StartError(Exception):
    """A server ended, or was not ready in time; the text holds what it printed."""


class Server:
    """A server process; subclasses say how it is started and where it keeps its data."""

    label = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        folder.mkdir(parents=True)
        self.output = folder / "output.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def client_options(self) -> list[str]:
        """What redis-benchmark is to be told of it beside host and port."""
        return []

    def start(self) -> float:
        """Start and wait for the first answer to a read; returns the seconds this took."""
        if self.port == 0:
            self.port = free_port()
        begin = time.perf_counter()
        with self.output.open("ab") as sink:
            self.process = subprocess.Popen(
                self.command(), stdout=sink, stderr=subprocess.STDOUT, cwd=self.folder, env=self.environment()
            )
        while not self._serves():
            if self.process.poll() is not None or time.perf_counter() - begin > START_S_MAX:
                raise StartError(f"{self.label} did not start:\n{self.output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)
        return time.perf_counter() - begin

    def _serves(self) -> bool:
        """True when a read is answered: a server that still loads says -LOADING."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as conn:
                conn.sendall(b"GET no-such-key\r\n")
                return conn.recv(64).startswith(b"$-1")
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def rss_bytes(self) -> int:
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def cpu_seconds(self) -> float:
        """Processor time taken since the start, by all threads: unlike a rate, it means something on a busy machine."""
        assert self.process is not None
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def log_bytes(self) -> int:
        """What one copy of the log takes on disk."""
        raise NotImplementedError


class Redis(Server):
    """redis-server; `always` is one copy fsynced before each reply, otherwise nothing is kept."""

    def __init__(self, folder: Path, always: bool) -> None:
        super().__init__(folder)
        self.always = always
        self.label = "Redis always" if always else "Redis"

    def command(self) -> list[str]:
        binary = shutil.which("redis-server") or "redis-server"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        if self.always:
            # No rewrite in the middle of a run: it would compete for the disk, and the restart is to read commands.
            options += ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        return [binary, *options]

    def log_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.folder / "appendonlydir").glob("*"))


class EventDB(Server):
    """`python -m eventdb serve` on quorum files; `source` may be another tree, such as one without compiled files."""

    def __init__(self, folder: Path, zones: int = 3, source: Path | None = None, label: str = "eventdb") -> None:
        super().__init__(folder)
        self.zones = zones
        self.source = source or ROOT
        self.label = label

    def command(self) -> list[str]:
        url = f"quorum:{self.folder / 'data'}?zones={self.zones}"
        return [sys.executable, "-m", "eventdb", "serve", "--log", url, "--port", str(self.port)]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.source)}

    def log_bytes(self) -> int:
        """Of one zone; the zeros a segment is filled with ahead of the writer do not count."""
        files = [path for path in (self.folder / "data").rglob("*") if path.is_file()]
        return sum(_used_bytes(path) for path in files) // self.zones


def _used_bytes(path: Path) -> int:
    """Size of a file without its tail of zeros."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while end > 0:
            start = max(0, end - (1 << 20))
            file.seek(start)
            used = len(file.read(end - start).rstrip(b"\0"))
            if used:
                return start + used
            end = start
    return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pure_tree(folder: Path) -> Path:
    """A copy of the package without compiled modules, to run the pure build beside the compiled one."""
    shutil.copytree(ROOT / "eventdb", folder / "eventdb", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return folder


def is_compiled() -> bool:
    """Whether the tree holds compiled modules now."""
    return any((ROOT / "eventdb").glob("*.so"))
