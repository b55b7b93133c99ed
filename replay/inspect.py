"""Look into a log: transactions as people read commands, every check there is, the digest at an offset."""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from eventdb.backends.log import Corrupt, Log, Record, RecordKind
from eventdb.replay import state
from eventdb.replay.completeness import Incomplete, check_complete
from eventdb.replay.filling import OnPhase
from eventdb.replay.machine import MachineFactory, Transaction
from eventdb.replay.reading import reading
from eventdb.replay.store import SnapshotStore
from eventdb.replay.times import format_ms
from eventdb.replay.transaction import decode

# What needs no quotes when a person types it into redis-cli.
PLAIN: Final = re.compile(rb"[!#-&(-\[\]-~]+")
# What a person is shown of an event, unless all of it is asked for: two values of 40 MB are no answer at 3 a.m.
ARGUMENT_BYTES_SHOWN: Final = 128
ARGUMENTS_SHOWN: Final = 32
ESCAPES: Final = {10: "\\n", 13: "\\r", 9: "\\t", 7: "\\a", 8: "\\b", 34: '\\"', 92: "\\\\"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction, or one claim (then `offset` is 0 and `events` is empty)."""

    offset: int
    time_ms: int
    epoch: int
    position: int
    origin: str  # who made the transaction; the node that claimed
    events: tuple[tuple[int, list[bytes]], ...] = field(default=())  # (database, event)


async def tail(log: Log, from_offset: int = 1, *, follow: bool = False, claims: bool = True) -> AsyncIterator[Entry]:
    """Yield what is durable from transaction `from_offset` on; then, with `follow`, what comes.

    Raises what `Log.seek` and `Log.read` raise.
    """
    async with reading(log, await log.seek(from_offset), follow=follow) as stretches:
        async for stretch in stretches:
            for record in stretch.records:
                if record.kind is RecordKind.CLAIM and claims and record.first_offset >= from_offset:
                    yield Entry(
                        0, record.time_ms, record.epoch, record.position, record.body.decode("utf-8", "replace")
                    )
                elif record.kind is RecordKind.DATA and record.last_offset >= from_offset:
                    skip = max(0, from_offset - record.first_offset)
                    for index, transaction in enumerate(decode(record)[skip:], skip):
                        yield entry(record, index, transaction)


async def around(log: Log, offset: int, before: int, after: int) -> list[Entry]:
    """The transactions `offset - before + 1` to `offset + after`, as far as they exist."""
    found: deque[Entry] = deque()
    async for item in tail(log, max(1, offset - before + 1), claims=False):
        if item.offset > offset + after:
            break
        found.append(item)
    return list(found)


def entry(record: Record, index: int, transaction: Transaction) -> Entry:
    """One decoded transaction of a record; SELECT events become the database of those after them."""
    origin = transaction[0]
    db = 0
    events: list[tuple[int, list[bytes]]] = []
    for event in transaction[1:]:
        assert isinstance(event, list)
        if event[0] == b"SELECT" and len(event) == 2:
            db = int(event[1])
        else:
            events.append((db, event))
    who = origin.decode("utf-8", "replace") if isinstance(origin, bytes) else "?"
    offset = record.first_offset + index
    return Entry(offset, record.time_ms, record.epoch, record.position, who, tuple(events))


def quote(arg: bytes) -> str:
    """An argument as redis-cli reads and prints it: bare when that is unambiguous, else quoted and escaped.

    Source: redis src/sds.c sdscatrepr (escapes), sdssplitargs (what needs quotes).
    """
    if PLAIN.fullmatch(arg):
        return arg.decode("ascii")
    parts = ['"']
    for byte in arg:
        if byte in ESCAPES:
            parts.append(ESCAPES[byte])
        elif 32 <= byte < 127:
            parts.append(chr(byte))
        else:
            parts.append(f"\\x{byte:02x}")
    parts.append('"')
    return "".join(parts)


def shortened(event: list[bytes]) -> str:
    """An event as `quote` shows it, long arguments and long lists of them cut, each with what was left out."""
    shown: list[str] = []
    for arg in event[:ARGUMENTS_SHOWN]:
        left = len(arg) - ARGUMENT_BYTES_SHOWN
        shown.append(quote(arg) if left <= 0 else f"{quote(arg[:ARGUMENT_BYTES_SHOWN])}…({left:,} more bytes)")
    if len(event) > ARGUMENTS_SHOWN:
        shown.append(f"…({len(event) - ARGUMENTS_SHOWN:,} more arguments)")
    return " ".join(shown)


def lines(item: Entry, *, full: bool = False) -> list[str]:
    """One line an event: offset, time, [database who], command. A claim is a comment, as it changes no key.

    full: values are shown to their end.
    """
    at = format_ms(item.time_ms)
    if item.offset == 0:
        after = f"the last transaction before it is of {at}" if item.time_ms else "no transaction before it"
        return [f"# epoch {item.epoch} claimed by {item.origin or 'nobody'}; {after}"]
    head = f"{item.offset} {at}"
    shown = [
        f"{head} [{db} {item.origin}] {' '.join(map(quote, event)) if full else shortened(event)}"
        for db, event in item.events
    ]
    return shown or [f"{head} [0 {item.origin}] # no event"]


def as_json(item: Entry) -> dict[str, object]:
    """For one JSON object a line. Bytes that are not UTF-8 become {"base64": …}, so that nothing is lost."""
    common: dict[str, object] = {
        "time": format_ms(item.time_ms),
        "time_ms": item.time_ms,
        "epoch": item.epoch,
        "position": item.position,
    }
    if item.offset == 0:
        return {"kind": "claim", **common, "node": item.origin}
    events = [{"db": db, "event": [_text(arg) for arg in event]} for db, event in item.events]
    return {"kind": "transaction", "offset": item.offset, **common, "origin": item.origin, "events": events}


def _text(arg: bytes) -> object:
    try:
        return arg.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(arg).decode()}


async def verify(log: Log) -> AsyncIterator[str]:
    """Check every copy in every zone, then history as a reader sees it; yield one line per finding."""
    async for finding in log.verify():
        yield finding
    rules = RecordRules()
    try:
        async with reading(log, (await log.info()).first_position) as stretches:
            async for stretch in stretches:
                for record in stretch.records:
                    for finding in rules.check(record):
                        yield finding
        await check_complete(log)
    except (Corrupt, Incomplete) as error:
        yield str(error)


class RecordRules:
    """What must hold from record to record, whatever the backend."""

    def __init__(self) -> None:
        self.next_offset = 0
        self.time_ms = 0
        self.epoch = 0

    def check(self, record: Record) -> list[str]:
        """Findings about the next record in log order."""
        found: list[str] = []
        where = f"position {record.position}"
        if self.next_offset and record.first_offset != self.next_offset:
            found.append(f"{where}: starts with offset {record.first_offset} where {self.next_offset} is due")
        if record.time_ms < self.time_ms:
            found.append(f"{where}: its time {format_ms(record.time_ms)} lies before {format_ms(self.time_ms)}")
        if record.epoch < self.epoch:
            found.append(f"{where}: epoch {record.epoch} comes after epoch {self.epoch}")
        self.next_offset, self.time_ms, self.epoch = record.last_offset + 1, record.time_ms, record.epoch
        if record.kind is RecordKind.DATA:
            try:
                decode(record)
            except Corrupt as error:
                found.append(str(error))
        return found


@dataclass(frozen=True, slots=True)
class StateAt:
    """The state after one transaction."""

    offset: int
    time_ms: int
    key_count: int
    digest: str


async def state_at(
    log: Log,
    make_machine: MachineFactory,
    offset: int | None = None,
    on_progress: OnPhase | None = None,
    store: SnapshotStore | None = None,
) -> StateAt:
    """Rebuild up to `offset` (None: all that is durable) and digest. Raises as `state.state_at`."""
    machine, follower = await state.state_at(log, store, make_machine, offset, on_progress=on_progress)
    return StateAt(follower.offset, follower.committed_ms, machine.key_count(), machine.digest())
