"""A real Prometheus for a test, and its promtool: from the machine, or as `make prometheus` has unpacked them."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, free_port, wait_until

UNPACKED = ROOT / "build" / "prometheus" / "usr" / "bin"
FOLDER = ROOT / "docs" / "monitoring"


def program(name: str) -> str:
    """Its path; a test that needs it is skipped where it is not there."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        pytest.skip(f"{name} is not installed (make prometheus)")
    return found


def promtool(*words: str | Path) -> str:
    """What it prints; it must end well."""
    done = subprocess.run([program("promtool"), *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def configuration(folder: Path, ports: list[int]) -> Path:
    """docs/monitoring/prometheus.yaml with these targets in the place of a network's names, beside the alert rules."""
    text = (FOLDER / "prometheus.yaml").read_text()
    head, found, _ = text.partition("    dns_sd_configs:")
    assert found, "where its targets come from has changed"
    targets = ", ".join([f"'127.0.0.1:{port}'" for port in ports])
    config = folder / "prometheus.yaml"
    config.write_text(f"{head.replace('5s', '250ms')}    static_configs: [{{targets: [{targets}]}}]\n")
    shutil.copy(FOLDER / "alerts.yaml", folder)
    return config


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series that a query finds now."""
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=query)["result"]
        return found

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def running(folder: Path, ports: list[int]) -> Iterator[Prometheus]:
    """Prometheus, scraping these ports of this machine."""
    path, port = program("prometheus"), free_port()
    options = [f"--config.file={configuration(folder, ports)}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [path, *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
        try:
            found = Prometheus(port)
            wait_until(found.is_ready, 60, "Prometheus is ready")
            yield found
        finally:
            process.terminate()
            process.wait(30)
