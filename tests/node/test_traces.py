"""Traces: a real collector's door in the test takes OTLP over HTTP and reads the protobuf."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from eventdb.engine.settings import Config
from eventdb.node.traces import SAMPLES_A_SECOND, Few
from eventdb.protocol.errors import ReplyError
from eventdb.server.server import Server
from tests.conftest import ROOT, StartServer, wait_until
from tests.kit.nodes import Nodes
from tests.kit.wire import Wire
from tests.node.test_unbroken_lease import info

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="opentelemetry is not installed")


class Collector:
    """Keeps each span that it was sent, with the node that sent it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.raw = b""
        outer = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.raw += body
        for one in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in one.resource.attributes}
            assert about["service.name"] == "eventdb"
            self.spans += [(about["service.instance.id"], span) for part in one.scope_spans for span in part.spans]

    def named(self, name: str, node: str = "a") -> list[Any]:
        return [span for sender, span in self.spans if span.name == name and sender == node]

    def one(self, name: str, node: str = "a") -> Any:
        wait_until(lambda: bool(self.named(name, node)), 30, f"a span {name} of {node}")
        return self.named(name, node)[0]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def facts(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with closing(Collector()) as found:
        yield found


def test_starts_commits_slow_commands_snapshots_and_restores_are_spans(tmp_path: Path, collector: Collector) -> None:
    settings = {
        "traces_endpoint": collector.endpoint,
        "traces_slower_than": "1500",
        "snapshot_store": f"{tmp_path}/s",
        "enable_debug_command": "yes",
    }
    with Nodes(tmp_path, **settings) as nodes:
        server = nodes.start("a")
        with redis.Redis(port=server.port, socket_timeout=60) as client:  # a restore is not to be asked for twice
            client.set("secret-key", "secret-value")
            client.set("secret-key", "another")
            client.execute_command("DEBUG", "SLEEP", "0.01")
            client.execute_command("SAVE")
            client.execute_command("EVENTDB.RESTORE", "TO", "OFFSET", "1")
            assert client.get("secret-key") == b"secret-value"
        commit = collector.one("commit")
        assert facts(commit)["eventdb.transactions"] == 1 and facts(commit)["eventdb.first_offset"] == 1
        assert (
            0 < facts(commit)["eventdb.append_s"] * 1e9 <= commit.end_time_unix_nano - commit.start_time_unix_nano + 1e6
        )
        collector.one("command")
        slow = {facts(span)["db.operation"]: span for span in collector.named("command")}
        assert "debug" in slow, slow.keys()
        assert slow["debug"].end_time_unix_nano - slow["debug"].start_time_unix_nano >= 10e6
        assert facts(collector.one("snapshot"))["eventdb.offset"] in (0, 2)
        assert facts(collector.one("restore"))["eventdb.offset"] in (2, 3)
        start, claim = collector.one("start"), collector.one("claim")
        assert claim.parent_span_id == start.span_id and claim.trace_id == start.trace_id
        assert facts(start)["eventdb.role"] == "primary" and facts(start)["eventdb.epoch"] == 1
        assert {span.parent_span_id for span in collector.named("replay")} >= {start.span_id, claim.span_id}
    assert b"secret" not in collector.raw


def test_a_hand_over_and_a_failed_one_are_spans(tmp_path: Path, collector: Collector) -> None:
    with Nodes(tmp_path, traces_endpoint=collector.endpoint) as nodes:
        first = nodes.start("a")
        with redis.Redis(port=first.port) as client:
            client.set("k", "v")
        nodes.start("b", follow_only=True)
        with pytest.raises(ReplyError):
            nodes.run(first.node.hand_over("127.0.0.1:1", 100))
        failed = collector.one("hand-over")
        assert failed.status.code == 2 and failed.status.message == "ReplyError"


def test_a_hand_over_and_the_take_over_after_a_kill_are_spans_of_both_nodes(
    eventdb_server: StartServer, tmp_path: Path, collector: Collector
) -> None:
    log = f"quorum:{tmp_path}/data"
    options = ("--config", f"traces-endpoint={collector.endpoint}", "--lease-ms", "1000")
    servers = {name: eventdb_server(log, "--node-name", name, *options) for name in ("a", "b")}
    with Wire(servers["a"].port) as wire:
        assert wire("SET", "secret-key", "v") == b"OK"
        wait_until(lambda: b"connected_slaves:1" in info(wire), 30, "the replica is listed")
        assert wire("FAILOVER", "TIMEOUT", 10_000) == b"OK"
    given, taken = collector.one("hand-over", "a"), collector.one("take-over", "b")
    assert given.status.code != 2 and taken.status.code != 2
    assert facts(given)["eventdb.role"] == "replica" and facts(taken)["eventdb.role"] == "primary"
    assert facts(taken)["eventdb.epoch"] == 2 and facts(taken)["eventdb.offset"] >= 1
    (claim,) = collector.named("claim", "b")
    assert claim.parent_span_id == taken.span_id and claim.trace_id == taken.trace_id
    assert collector.named("take-over", "a") == []
    servers["b"].kill()
    again = collector.one("take-over", "a")
    assert facts(again)["eventdb.role"] == "primary" and facts(again)["eventdb.epoch"] == 3
    assert again.end_time_unix_nano > again.start_time_unix_nano > taken.end_time_unix_nano
    assert b"secret" not in collector.raw


def test_what_cannot_be_sent_holds_nobody_up(tmp_path: Path) -> None:
    with Nodes(tmp_path, traces_endpoint="http://127.0.0.1:1/v1/traces") as nodes:
        server = nodes.start("a")
        with redis.Redis(port=server.port) as client:
            for number in range(100):
                assert client.set("k", number)


def test_off_nothing_is_imported_and_nothing_is_called(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        server = nodes.start("a")
        assert server.traces is None and server.node.traces is None
        assert server.node.appending.on_commit is None and server.node.engine.accounting.on_slow is None
        assert server.node.engine.accounting.traced_usec == float("inf")
    code = (
        "import asyncio, sys\nfrom eventdb.engine.settings import Config\nfrom eventdb.server.server import Server\n"
        "async def main():\n    server = Server('memory:', Config(), port=0)\n    await server.start()\n"
        "    await server.close()\n    print('opentelemetry' in sys.modules)\nasyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_of_what_happens_all_the_time_the_first_few_of_a_second_are_spans() -> None:
    few = Few()
    passed = [few.passes(now) for now in [1.0] * 20 + [2.5] * 20]
    assert sum(passed[:20]) == sum(passed[20:]) == SAMPLES_A_SECOND and passed[20]


@pytest.mark.parametrize(
    ("endpoint", "missing", "text"),
    [
        ("localhost:4318", False, "traces-endpoint 'localhost:4318' is no URL: write http://HOST:4318/v1/traces"),
        ("http://h", True, "traces-endpoint needs OpenTelemetry, which is not installed: pip install 'eventdb[otel]'"),
    ],
)
async def test_a_start_that_cannot_trace_says_why(
    endpoint: str, missing: bool, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    config = Config()
    config.set("traces-endpoint", endpoint)
    server = Server("memory:", config, port=0)
    with pytest.raises(ValueError) as refused:
        await server.start()
    assert str(refused.value) == text
    await server.close()
