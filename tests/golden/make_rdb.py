"""Writes tests/golden/rdb/: `python -m tests.golden.make_rdb` with a redis-server 7.0 at hand. Once for each format.

ours.rdb, ours.json       a file of ours, the digest of its state, and the commands that made it
redis-7.0.json            values as commands, each with what DUMP of a real server answered for it
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from random import Random

import hiredis

from eventdb.rdb.writer import write
from tests.conftest import answers_ping, free_port, wait_until
from tests.kit.differential import Wire
from tests.kit.harness import Local
from tests.kit.values import Command, values

FOLDER = Path(__file__).parent / "rdb"
LEFT_OUT = {  # what is large, or has an order that changes from one process to the next
    "hash many", "list many", "set many", "zset many", "hll dense", "set many ints", "set ints", "list large element",
    "bitmap",
}  # fmt: skip
FACTS = {"redis-ver": "7.0.15", "ctime": "1767225600", "eventdb-offset": "1"}


def small() -> dict[str, list[Command]]:
    return {key: commands for key, commands in values(Random(1)).items() if key not in LEFT_OUT}


def shown(commands: list[Command]) -> list[list[str]]:
    """Commands as JSON holds them: arguments as hexadecimal digits."""
    return [[(a if isinstance(a, bytes) else str(a).encode()).hex() for a in command] for command in commands]


def file_of(local: Local) -> bytes:
    parts: list[bytes] = []
    write(parts.append, local.engine.store.keyspace, FACTS)
    return b"".join(parts)


def replayed(commands: list[list[str]], local: Local) -> None:
    for command in commands:
        assert not local.raw(*map(bytes.fromhex, command)).startswith(b"-"), command


def ours() -> None:
    commands = shown([command for made in small().values() for command in made])
    commands += shown([("SELECT", 3), ("SADD", "k", 1, "two"), ("PEXPIREAT", "k", 4_000_000_000_000)])
    local = Local()
    replayed(commands, local)
    (FOLDER / "ours.rdb").write_bytes(file_of(local))
    (FOLDER / "ours.json").write_text(json.dumps({"digest": local.engine.digest(), "commands": commands}, indent=0))


def theirs() -> None:
    binary, port = shutil.which("redis-server"), free_port()
    assert binary is not None
    folder = tempfile.mkdtemp(prefix="redis-")
    start = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(start, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        wait_until(lambda: answers_ping(port))
        found = []
        with closing(Wire(("127.0.0.1", port))) as wire:
            for key, commands in small().items():
                for command in commands:
                    wire.call(*command)
                reader = hiredis.Reader()
                reader.feed(wire.call("DUMP", key))
                found.append({"key": key, "commands": shown(commands), "payload": reader.gets().hex()})
        (FOLDER / "redis-7.0.json").write_text(json.dumps(found, indent=0))
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    ours()
    theirs()
