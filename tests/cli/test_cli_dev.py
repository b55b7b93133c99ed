"""`eventdb dev kafka`: brokers for as long as the command runs, and what it says where they cannot run."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import uuid
import xml.etree.ElementTree as Xml
from pathlib import Path

import pytest

from eventdb.backends import open_log
from eventdb.backends.conformance import data_of, fill, read_all
from eventdb.cli.dev.brokers import POM, new_cluster_id
from tests.conftest import ROOT, wait_until
from tests.kit.kafka_brokers import JARS, start_brokers


def start(*argv: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "eventdb", "dev", "kafka", *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_no_cluster_id_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([uuid.UUID(bytes=bytes([first]) + bytes(15)) for first in (0xF8, 0xFB, 0xFC)])
    monkeypatch.setattr(uuid, "uuid4", lambda: next(drawn))
    assert new_cluster_id() == "_" + "A" * 21


@pytest.mark.kafka
def test_it_prints_a_url_that_works_and_stops_the_brokers_on_ctrl_c(tmp_path: Path) -> None:
    start_brokers(tmp_path / "probe", 0)  # skips where there is no Kafka
    process = start("--brokers", "1", "--jars", str(JARS), "--dir", str(tmp_path), "--topic", "orders")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            pytest.fail(f"it ended with {process.wait(30)}: {process.communicate()[1]}")
        assert re.fullmatch(r"kafka://127\.0\.0\.1:\d+/orders\?allow-weak=1", url)
        assert asyncio.run(write_and_read(url)) == [b"in"]
    finally:
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    pid = int(re.findall(r"pid (\d+)", err)[0])
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the broker is gone")


async def write_and_read(url: str) -> list[bytes]:
    log = open_log(url)
    await fill(await log.claim("node"), [b"in"])
    found = data_of(await read_all(log))
    await log.close()
    return found


def test_without_java_it_says_what_to_install(tmp_path: Path) -> None:
    env = {**os.environ, "PATH": str(tmp_path), "JAVA_HOME": ""}
    process = start("--dir", str(tmp_path), env=env)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == "eventdb: Java 17 is not installed (Debian: apt-get install openjdk-17-jre-headless)\n"


def test_both_poms_ask_for_the_same_jars() -> None:
    def wanted(text: str) -> list[list[str | None]]:
        space = "{http://maven.apache.org/POM/4.0.0}"
        return [[part.text for part in found] for found in Xml.fromstring(text).iter(f"{space}dependency")]

    assert wanted(POM) == wanted((ROOT / "tests" / "kafka" / "pom.xml").read_text())
