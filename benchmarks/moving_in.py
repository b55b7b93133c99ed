"""How fast a running Redis moves in, beside a replica of its own: `python -m benchmarks.moving_in --keys 1000000`.

Four rows. The file: until a fresh replica is up, and until `eventdb import` of the same keys has ended, read back and
all. The stream: keys written while both follow, until each of them has all of it. Then an RDB file, against Redis's own
load of it, and an append-only file. Rates are keys a second; the last column is ours over Redis's.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.load import fill
from benchmarks.servers import ROOT, EventDB, Redis, is_compiled

WAIT_S = 3600


class Replica(Redis):
    """A Redis that follows another, or that begins with its files."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, always=False)
        self.options = options

    def command(self) -> list[str]:
        return [*super().command(), *self.options]


def ask(port: int, *words: str) -> str:
    """One command; the whole reply as text."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as conn:
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        conn.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        reply = conn.recv(1 << 16).decode()
        while reply.startswith("$") and not reply.endswith("\r\n"):
            reply += conn.recv(1 << 16).decode()
        return reply


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark waits for something that does not come")
        time.sleep(0.01)


def start_import(*argv: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "eventdb", "import", *argv]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)


def timed_import(*argv: str) -> float:
    began = time.perf_counter()
    if start_import(*argv).wait() != 0:
        raise RuntimeError("eventdb import failed")
    return time.perf_counter() - began


def row(what: str, keys: int, redis_s: float, ours_s: float, note: str = "") -> None:
    a, b = keys / redis_s, keys / ours_s
    print(f"{what:<28} {a:>12,.0f} {b:>12,.0f} {b / a:>6.2f}  {note}", flush=True)


def replica_s(source: Redis, folder: Path) -> tuple[Redis, float]:
    """A fresh replica, and the seconds until it has the source's file."""
    replica = Replica(folder)
    replica.start()
    began = time.perf_counter()
    ask(replica.port, "REPLICAOF", "127.0.0.1", str(source.port))
    wait(lambda: "master_link_status:up" in ask(replica.port, "INFO", "replication"))
    return replica, time.perf_counter() - began


def acknowledged(source: Redis) -> list[int]:
    """The offsets of the source's replicas, and its own, largest last."""
    info = ask(source.port, "INFO", "replication")
    found = [int(text) for text in re.findall(r"slave\d+:.*?offset=(\d+)", info)]
    return [*sorted(found), number("master_repl_offset", info)]


def number(name: str, info: str) -> int:
    """A field of INFO."""
    found = re.search(rf"^{name}:(\d+)", info, re.MULTILINE)
    assert found is not None, info
    return int(found[1])


def live(source: Redis, folder: Path, keys: int, control: Redis) -> tuple[float, float]:
    """Seconds in which the replica, and we, have what was written to the source meanwhile; each alone."""
    began = time.perf_counter()
    fill(source, keys)
    goal = acknowledged(source)[-1]
    wait(lambda: number("slave_repl_offset", ask(control.port, "INFO", "replication")) >= goal)
    redis_s = time.perf_counter() - began
    control.kill()
    url = f"quorum:{folder / 'live'}"
    following = start_import(f"redis://127.0.0.1:{source.port}", "--log", url)
    try:
        wait(lambda: "state=online" in ask(source.port, "INFO", "replication"))
        wait(lambda: acknowledged(source)[0] >= acknowledged(source)[-1])
        began = time.perf_counter()
        fill(source, keys)
        wait(lambda: len(acknowledged(source)) > 1 and acknowledged(source)[0] >= acknowledged(source)[-1])
        return redis_s, time.perf_counter() - began
    finally:
        following.terminate()
        following.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    keys = parser.parse_args().keys
    print(f"{keys:,} keys of 100 B; {'compiled' if is_compiled() else 'pure'} build")
    print(f"{'keys a second':<28} {'Redis':>12} {'eventdb':>12} {'ratio':>6}")
    with tempfile.TemporaryDirectory(prefix="moving-in-") as name:
        folder = Path(name)
        source = Replica(
            folder / "source", "--repl-diskless-sync-delay", "0", "--client-output-buffer-limit", "replica 0 0 0"
        )
        source.start()
        fill(source, keys)
        control, redis_s = replica_s(source, folder / "replica")
        url = f"redis://127.0.0.1:{source.port}"
        ours_s = timed_import(url, "--log", f"quorum:{folder / 'moved'}", "--cutover", "zero")
        row("migration, the file", keys, redis_s, ours_s, "ours is durable, and read back")
        row("migration, the stream", keys, *live(source, folder, keys, control))
        ask(source.port, "SAVE")
        file = source.folder / "dump.rdb"
        loader = Replica(folder / "loader")
        (loader.folder / "dump.rdb").write_bytes(file.read_bytes())
        redis_s = loader.start()
        loader.kill()
        row("RDB file", keys, redis_s, timed_import(str(file), "--log", f"quorum:{folder / 'rdb'}"))
        source.kill()
        always = Replica(folder / "aof", "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
        always.start()
        fill(always, keys)
        always.kill()
        redis_s = always.start()
        always.kill()
        row("appendonlydir", keys, redis_s, timed_import(str(always.folder), "--log", f"quorum:{folder / 'from-aof'}"))
        server = EventDB(folder / "served")  # what was moved in is served
        server.command = lambda: [  # type: ignore[method-assign]
            sys.executable, "-m", "eventdb", "serve", "--log", f"quorum:{folder / 'moved'}", "--port", str(server.port)
        ]  # fmt: skip
        print(f"served after {server.start():.1f} s, {ask(server.port, 'DBSIZE')[1:].strip()} keys")
        server.kill()


if __name__ == "__main__":
    main()
