"""`python -m benchmarks.costs`: what metrics, a restricted user, encryption at rest, TLS and traces cost a command.

Two servers of this tree, one with the thing and one without, are asked in turn. What counts is the processor time that
the server takes for a request, all its threads: on a busy machine rates mean nothing, and that still does.
"""

from __future__ import annotations

import argparse
import http.server
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Final

from benchmarks.load import redis_benchmark
from benchmarks.rows import LoadRow
from benchmarks.sealed import Sealed
from benchmarks.servers import EventDB, Server, free_port

SCRAPE_S: Final = 1.0  # between two scrapes: oftener than Prometheus does
ROWS: Final = (
    LoadRow("costs", "get", 50, 1),
    LoadRow("costs", "get", 50, 16),
    LoadRow("costs", "set", 50, 1),
    LoadRow("costs", "set", 50, 16),
)


class Plain(EventDB):
    """With nothing of it."""


class Watched(EventDB):
    """With metrics that are scraped, once a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, label="metrics")
        self.metrics_port = free_port()
        self._over = threading.Event()

    def command(self) -> list[str]:
        return [*super().command(), "--metrics-port", str(self.metrics_port)]

    def start(self) -> float:
        seconds = super().start()
        threading.Thread(target=self._scrape, daemon=True).start()
        return seconds

    def _scrape(self) -> None:
        while not self._over.wait(SCRAPE_S):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30) as answer:
                answer.read()

    def kill(self) -> None:
        self._over.set()
        super().kill()


class Restricted(EventDB):
    """Asked as a user who may call some commands on some keys."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, label="restricted user")

    def start(self) -> float:
        seconds = super().start()
        rules = ["reset", "on", ">pw", "~key:*", "+get", "+set", "+config|get"]
        subprocess.run(
            ["redis-cli", "-p", str(self.port), "ACL", "SETUSER", "app", *rules], check=True, capture_output=True
        )
        return seconds

    def client_options(self) -> list[str]:
        return ["--user", "app", "-a", "pw"]


class Encrypted(EventDB):
    """Asked by TLS."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, label="TLS")
        self.tls_port = free_port()
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", str(self.key), "-out", str(self.certificate)],
            check=True, capture_output=True,
        )  # fmt: skip

    def command(self) -> list[str]:
        files = ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key)]
        return [*super().command(), "--tls-port", str(self.tls_port), *files, "--tls-auth-clients", "no"]

    def client_options(self) -> list[str]:
        return ["-p", str(self.tls_port), "--tls", "--cacert", str(self.certificate)]


class Traced(EventDB):
    """With traces that go to a collector which takes everything."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, label="traces")
        self._collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        threading.Thread(target=self._collector.serve_forever, daemon=True).start()

    def command(self) -> list[str]:
        endpoint = f"http://127.0.0.1:{self._collector.server_port}/v1/traces"
        return [*super().command(), "--config", f"traces-endpoint={endpoint}"]

    def kill(self) -> None:
        super().kill()
        self._collector.shutdown()
        self._collector.server_close()


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes what it is sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


# What each kind of thing may cost: the share of the processor time without it that its server may take at most.
KINDS: Final[dict[str, tuple[type[EventDB], float]]] = {
    "metrics": (Watched, 1 / 0.98),
    "acl": (Restricted, 1 / 0.95),
    "sealed": (Sealed, 1 / 0.95),
    "tls": (Encrypted, math.inf),  # it costs Redis as well: what is asked of it is a ratio to Redis with TLS
    "traces": (Traced, 1 / 0.98),
}


def cost(row: LoadRow, without: Server, with_it: Server, requests: int, rounds: int) -> tuple[float, float, float]:
    """Microseconds of processor time a request, without and with it, and the median of the ratios of neighbours."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        order = (without, with_it) if number % 2 == 0 else (with_it, without)
        found = {server.label: redis_benchmark(server, row, requests).cpu_us for server in order}
        pairs.append((found[without.label], found[with_it.label]))
    ratio = statistics.median(second / first for first, second in pairs)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), ratio


def main() -> int:
    parser = argparse.ArgumentParser(description="Processor time a request, with a thing and without, in turn.")
    parser.add_argument("--only", choices=sorted(KINDS), action="append", help="may be repeated")
    parser.add_argument("--requests", type=int, default=100_000, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if shutil.which("redis-benchmark") is None:
        parser.error("redis-benchmark is not installed")
    missed = 0
    for name in asked.only or KINDS:
        kind, limit = KINDS[name]
        with tempfile.TemporaryDirectory() as directory:
            without = Plain(Path(directory) / "without", label="without")
            with_it = kind(Path(directory) / "with")
            try:
                without.start()
                with_it.start()
                for row in ROWS:
                    first, second, ratio = cost(row, without, with_it, asked.requests, asked.rounds)
                    verdict = "" if ratio <= limit else f" (above {limit:.3f})"
                    missed += bool(verdict)
                    shown = f"{first:.2f} -> {second:.2f} us, ratio {ratio:.3f}{verdict}"
                    print(f"{name} {row.test} P={row.pipeline}: {shown}", flush=True)
            finally:
                without.kill()
                with_it.kill()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
