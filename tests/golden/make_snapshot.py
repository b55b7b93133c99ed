"""Writes tests/golden/snapshot/: `python -m tests.golden.make_snapshot`. Once for each format of the manifest.

A whole store with one small snapshot, and the digest of its state in digest.txt: readable for ever.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from eventdb.backends import open_log
from eventdb.history.view import View
from eventdb.replay import making
from eventdb.replay.stores import open_store
from tests.golden.make_rdb import replayed, shown, small
from tests.kit.harness import Local
from tests.kit.machines import Scribe

FOLDER = Path(__file__).parent / "snapshot"


async def main() -> None:
    local = Local()
    replayed(shown([command for made in small().values() for command in made]), local)
    commands = [("SELECT", 3), ("SADD", "k", 1, "two"), ("HSET", "h", "f", 1, "g", 2)]
    commands += [("HPEXPIREAT", "h", 4_000_000_000_000, "FIELDS", 1, "f"), ("PEXPIREAT", "k", 4_000_000_000_000)]
    commands += [("EVENTDB.ONCE", "token", "INCR", "n"), ("ACL", "SETUSER", "ann", "on", ">secret", "~k:*", "+get")]
    commands += [("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)")]
    replayed(shown(commands), local)  # type: ignore[arg-type]
    log = open_log("memory:")
    scribe = await Scribe.claim(log)
    await scribe.write(local.transactions())  # type: ignore[arg-type]
    made = await making.create(log, open_store(str(FOLDER)), View)
    (FOLDER / "digest.txt").write_text(made.digest + "\n")


if __name__ == "__main__":
    asyncio.run(main())
