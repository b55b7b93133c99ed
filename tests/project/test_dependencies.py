"""What eventdb relies on in other packages, and what it says when an optional one is missing."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT = "import sys\nfor name in {names!r}: sys.modules[name] = None\n"


def run_without(*names: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python in which these packages cannot be imported."""
    program = WITHOUT.format(names=names) + code
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_embedded_database_needs_neither_kafka_nor_the_command_line() -> None:
    code = "import eventdb\nwith eventdb.open_sync('memory:') as db: print(db.execute('SET', 'k', 'v'))"
    done = run_without("aiokafka", "typer", "rich", "click", code=code)
    assert (done.returncode, done.stdout) == (0, "b'OK'\n"), done.stderr


def test_a_kafka_log_without_aiokafka_says_what_to_install() -> None:
    code = "import eventdb\neventdb.open_sync('kafka://localhost:1/topic')"
    done = run_without("aiokafka", code=code)
    assert "pip install 'eventdb[kafka]'" in done.stderr.splitlines()[-1]


def test_a_server_without_metrics_needs_no_prometheus_client() -> None:
    code = (
        "import asyncio\nfrom eventdb.engine.settings import Config\nfrom eventdb.server.server import Server\n"
        "async def main():\n    server = Server('memory:', Config(), port=0)\n    await server.start()\n"
        "    await server.close()\n    print('served')\nasyncio.run(main())"
    )
    done = run_without("prometheus_client", code=code)
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_the_command_without_its_packages_says_what_to_install(name: str) -> None:
    done = run_without(name, code="from eventdb.cli import app\napp()")
    assert done.returncode == 1
    assert (
        done.stderr == f"eventdb: the command line needs {name}, which is not installed: pip install 'eventdb[cli]'\n"
    )


def test_what_is_used_of_the_inside_of_aiokafka_is_there() -> None:
    """None of it is public: the upper bound in pyproject.toml moves only when this holds."""
    aiokafka = pytest.importorskip("aiokafka", reason="aiokafka is not installed")
    from aiokafka.conn import AIOKafkaConnection
    from aiokafka.protocol import admin, fetch, metadata, offset, produce, transaction
    from aiokafka.protocol.api import Request, RequestStruct, Response  # noqa: F401
    from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String  # noqa: F401
    from aiokafka.record import MemoryRecords
    from aiokafka.record.default_records import DefaultRecordBatchBuilder

    assert {"send", "connect", "close"} <= set(dir(AIOKafkaConnection))
    for module, name in [
        (admin, "CreateTopicsRequest"), (admin, "DescribeConfigsRequest"), (admin, "DeleteRecordsRequest"),
        (fetch, "FetchRequest"), (metadata, "MetadataRequest"), (offset, "OffsetRequest"),
        (produce, "ProduceRequest"), (transaction, "InitProducerIdRequest"),
    ]:  # fmt: skip
        assert inspect.isclass(getattr(module, name)), name
    assert {"has_next", "next_batch"} <= set(dir(MemoryRecords)) and hasattr(DefaultRecordBatchBuilder, "append")
    assert tuple(map(int, aiokafka.__version__.split(".")[:2])) < (0, 15)


def test_the_version_is_written_once() -> None:
    import eventdb

    assert "version" in PROJECT["dynamic"] and eventdb.__version__ == version("eventdb")
