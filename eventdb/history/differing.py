"""What differs between a moment of the past and now: the file that a restore in place is made of.

The past state and the present one are built from the log, beside the server, and compared while it goes on writing.
Then its writes wait, and only the keys that were written meanwhile are compared again. As a program
(`python -m eventdb.history.differing FD`) it does so for a server in another process, by lines of JSON:

    in  {"url", "store", "cut", "now", …}    out {"changed", "appeared", "vanished", …}    both states are there
    in  {"now"}                                out the same, for good; the file is in FD

Of the two states only what differs is written: the names of keys that the past had not, and its keys as an RDB file.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import IO, Final, cast

from eventdb.backends import Log, LogError, open_log
from eventdb.history.view import View
from eventdb.keyspace.choice import Choice, put
from eventdb.keyspace.databases import Db, Keyspace
from eventdb.keyspace.events import EVENTS, KEY_COPY, KEY_MOVE, touched_keys
from eventdb.keyspace.value import Value
from eventdb.rdb.codes import Unkept
from eventdb.rdb.writer import write
from eventdb.replay.follower import BeyondEnd, Follower
from eventdb.replay.machine import Transaction
from eventdb.replay.state import state_at
from eventdb.replay.store import SnapshotStore, StoreError
from eventdb.replay.stores import open_store

APPEAR_S_MAX: Final = 5.0  # for an offset that is durable to be seen by a reader in another process
APPEAR_STEP_S: Final = 0.005
NICENESS: Final = 10
HEAD_BYTES: Final = 8

Place = tuple[int, bytes]  # a database and a key


@dataclass(frozen=True, slots=True)
class Counts:
    """How far the present is from the past."""

    changed: int  # keys whose values or deadlines differ
    appeared: int  # keys of the past that are gone now
    vanished: int  # keys of now that were not there
    functions: int  # libraries that differ, of a whole restore


class Noting(View):
    """A view that notes the keys that were written since it was last asked."""

    def __init__(self) -> None:
        super().__init__()
        self.noting = False
        self.everything = False
        self.written: set[Place] = set()

    def apply(self, transactions: list[Transaction]) -> int:
        if self.noting:
            for transaction in transactions:
                self._note(transaction)
        return super().apply(transactions)

    def _note(self, transaction: Transaction) -> None:
        db = 0
        for event in transaction[1:]:
            argv = cast("list[bytes]", event)
            if argv[0] == b"SELECT":
                db = int(argv[1])
                continue
            kind = EVENTS[argv[0]]
            keys = touched_keys(argv, kind.keys)
            if keys is None:
                self.everything = True
                continue
            other = db
            if kind.keys == KEY_COPY:
                other = int(argv[4])
            elif kind.keys == KEY_MOVE:
                other = int(argv[2])
            for key in keys:
                self.written.add((db, key))
                self.written.add((other, key))


class Comparison:
    """Of one restore in place. `begin`, then `finish` any number of times, then `write`."""

    def __init__(self, log: Log, choice: Choice, store: SnapshotStore | None) -> None:
        self.log = log
        self.choice = choice
        self.store = store
        self.past = View()
        self.now = Noting()
        self.follower = Follower(log, self.now)
        self.differing: set[Place] = set()

    async def begin(self, cut_offset: int, now_offset: int) -> Counts:
        """Build both states and compare them. Raises what replaying raises."""
        await seen(self.log, now_offset)
        self.past, _ = await state_at(self.log, self.store, View, cut_offset)
        self.choice.prune(self.past.keyspace)
        self.now, self.follower = await state_at(self.log, self.store, Noting, now_offset)
        self.now.noting = True
        self._compare_all()
        return self._counts()

    async def finish(self, now_offset: int) -> Counts:
        """Go on to a later offset, and compare what was written since."""
        if now_offset > self.follower.offset:
            await seen(self.log, now_offset)
            await self.follower.rebuild(stop_offset=now_offset)
        if self.now.everything:
            self._compare_all()
        else:
            for place in self.now.written:
                if self.choice.takes(*place):
                    self._compare(place)
        self.now.everything = False
        self.now.written = set()
        return self._counts()

    def _compare_all(self) -> None:
        self.differing = set()
        for past, now in zip(self.past.keyspace.dbs, self.now.keyspace.dbs, strict=True):
            for key in {*past.values, *self.choice.keys(now)}:
                self._compare((now.index, key))

    def _compare(self, place: Place) -> None:
        index, key = place
        if same(self.past.keyspace.dbs[index], self.now.keyspace.dbs[index], key):
            self.differing.discard(place)
        else:
            self.differing.add(place)

    def _counts(self) -> Counts:
        past, now = self.past.keyspace, self.now.keyspace
        appeared = sum([key not in now.dbs[db].values for db, key in self.differing])
        vanished = sum([key not in past.dbs[db].values for db, key in self.differing])
        return Counts(len(self.differing) - appeared - vanished, appeared, vanished, self._functions())

    def _functions(self) -> int:
        if not self.choice.is_all():
            return 0
        past, now = self.past.keyspace.libraries.code, self.now.keyspace.libraries.code
        return sum([past.get(name) != now.get(name) for name in {*past, *now}])

    def write(self, file: IO[bytes]) -> None:
        """Write the file: the length of a list, the list of keys that the past had not, its keys that differ as RDB."""
        part = Keyspace()
        gone: list[list[object]] = []
        for index, key in sorted(self.differing):
            db = self.past.keyspace.dbs[index]
            if key in db.values:
                put(part.dbs[index], key, db.values[key], db.expires.get(key))
            else:
                gone.append([index, base64.b64encode(key).decode()])
        if self.choice.is_all():
            part.libraries = self.past.keyspace.libraries
        head = json.dumps(gone).encode()
        file.write(len(head).to_bytes(HEAD_BYTES, "little") + head)
        write(lambda data: (file.write(data), None)[1], part, {})
        file.flush()


def read_gone(file: IO[bytes]) -> list[Place]:
    """The list at the beginning of such a file; the RDB file comes after it."""
    size = int.from_bytes(file.read(HEAD_BYTES), "little")
    found = json.loads(file.read(size))
    return [(db, base64.b64decode(key)) for db, key in found]


def same(past: Db, now: Db, key: bytes) -> bool:
    """Whether both have the key with the same value and deadline, or neither has it."""
    a, b = past.values.get(key), now.values.get(key)
    if past.expires.get(key) != now.expires.get(key):
        return False
    if isinstance(a, Value) and isinstance(b, Value):
        return a.type_name() == b.type_name() and a.digest() == b.digest()
    return a == b


async def seen(log: Log, offset: int) -> None:
    """Wait until an offset that is durable is seen here: in another process that may be a little later."""
    deadline = time.monotonic() + APPEAR_S_MAX
    while (await log.info()).last_offset < offset and time.monotonic() < deadline:
        await asyncio.sleep(APPEAR_STEP_S)


def said(counts: Counts) -> dict[str, int]:
    return asdict(counts)


def choice_of(asked: dict[str, object]) -> Choice:
    """From JSON."""
    patterns = tuple(base64.b64decode(text) for text in cast("list[str]", asked["keys"]))
    return Choice(patterns, cast("int | None", asked["db"]))


def asked_for(url: str, store_url: str, cut: int, now: int, choice: Choice) -> dict[str, object]:
    """What the program is told first."""
    keys = [base64.b64encode(pattern).decode() for pattern in choice.patterns]
    return {"url": url, "store": store_url, "cut": cut, "now": now, "keys": keys, "db": choice.db}


async def _serve(file: IO[bytes]) -> None:
    """The program's two lines."""
    asked = json.loads(sys.stdin.buffer.readline())
    log = open_log(asked["url"])
    store = open_store(asked["store"]) if asked["store"] else None
    try:
        comparison = Comparison(log, choice_of(asked), store)
        _say(said(await comparison.begin(asked["cut"], asked["now"])))
        line = sys.stdin.buffer.readline()
        if line:  # else nothing more is wanted
            found = said(await comparison.finish(json.loads(line)["now"]))
            comparison.write(file)
            _say(found)
    finally:
        if store is not None:
            await store.close()
        await log.close()


def _say(found: dict[str, int]) -> None:
    sys.stdout.buffer.write(json.dumps(found).encode() + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """What goes wrong is one line on stderr."""
    os.nice(NICENESS)
    try:
        with os.fdopen(int(sys.argv[1]), "wb", closefd=False) as file:
            asyncio.run(_serve(file))
    except (LogError, StoreError, BeyondEnd, Unkept, OSError, MemoryError) as error:
        print(str(error) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
