"""The marks that a log holds: where a named point of its history is."""

from __future__ import annotations

from dataclasses import dataclass

from eventdb.backends.log import Log, LogError, RecordKind, Trimmed
from eventdb.backends.seal import CannotOpen, Keyring
from eventdb.history.importing import ORIGIN
from eventdb.keyspace.types.mark import MARK
from eventdb.rdb.reader import FileReader
from eventdb.rdb.source import Source
from eventdb.replay.cut import HistoryTrimmed, To, ToMark, ToOffset, Wanted, find_cut, record_at
from eventdb.replay.machine import Read, Transaction
from eventdb.replay.manifest import Manifest
from eventdb.replay.reading import reading
from eventdb.replay.sealing import keys_of
from eventdb.replay.snapshots import glance, newest
from eventdb.replay.store import NotThere, SnapshotStore
from eventdb.replay.times import format_ms
from eventdb.replay.transaction import decode


class NoMark(LogError):  # noqa: N818 - named as the errors of log.py are
    """The log has no mark of that name."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A mark as the log has it."""

    name: bytes
    offset: int
    time_ms: int
    digest: str  # of the state at the offset before; "" if it has none


def marks_in(transaction: Transaction, offset: int) -> list[Marked]:
    """The marks that it sets.

    One that came in with a file marks nothing in this log, whatever its offset; in what a restore from a snapshot has
    copied after the state, offsets differ.
    """
    found: list[Marked] = []
    origin = transaction[0]
    assert isinstance(origin, bytes)
    if origin == ORIGIN or origin.startswith(ORIGIN + b" "):
        return found
    for event in transaction[1:]:
        if event[0] == MARK and int(event[3]) == offset:
            assert isinstance(event, list)
            found.append(Marked(event[1], offset, int(event[2]), event[4].decode() if len(event) > 4 else ""))
    return found


async def listed(log: Log) -> list[Marked]:
    """Every mark in the log, those too that the state has dropped or replaced, oldest first. Reads all of it."""
    found: list[Marked] = []
    async with reading(log, (await log.info()).first_position) as stretches:
        async for stretch in stretches:
            for record in stretch.records:
                if record.kind is RecordKind.DATA and MARK in record.body:
                    for index, transaction in enumerate(decode(record)):
                        found += marks_in(transaction, record.first_offset + index)
    return found


async def trimmed(log: Log, store: SnapshotStore) -> list[Marked]:
    """The marks of what was trimmed away, as the log's snapshots have them, oldest first.

    Whether one of them came in with a file, from another log, cannot be told any more: no state is restored by it.
    Snapshots that cannot be read are passed over. Raises StoreUnavailable.
    """
    info = await log.info()
    found: set[Marked] = set()
    if info.first_offset > 1:
        for each in await newest(store, info.log_id):
            try:
                marks = await _in_snapshot(store, each, keys_of(log))
            except (NotThere, CannotOpen):
                continue
            found |= {mark for mark in marks if mark.offset < info.first_offset}
    return sorted(found, key=lambda mark: (mark.offset, mark.name))


async def _in_snapshot(store: SnapshotStore, manifest: Manifest, keys: Keyring | None) -> list[Marked]:
    """They stand before the keys, so little is read."""
    found: list[Marked] = []

    def take(read: Read) -> None:
        reader = FileReader(Source(b"", read))
        while not reader.key_count and (events := reader.piece(1)):
            for event in events:
                if event[0] == MARK and 0 < int(event[3]) <= manifest.offset:
                    digest = event[4].decode() if len(event) > 4 else ""
                    found.append(Marked(event[1], int(event[3]), int(event[2]), digest))

    await glance(store, manifest, take, keys)
    return found


async def resolved(log: Log, to: Wanted, store: SnapshotStore | None = None) -> To:
    """The same, a mark as its offset: the newest of that name. Raises NoMark, HistoryTrimmed; StoreError."""
    if not isinstance(to, ToMark):
        return to
    found = [mark for mark in await listed(log) if mark.name == to.name]
    if not found:
        raise await _missing(log, to.name, store)
    place = ToOffset(found[-1].offset)
    info = await log.info()
    if info.first_offset > 1:
        try:
            await find_cut(log, place, [] if store is None else await newest(store, info.log_id))
        except HistoryTrimmed as error:
            raise HistoryTrimmed(f"mark {_text(to.name)!r} is offset {place.offset}: {error}") from error
    return place


async def _missing(log: Log, name: bytes, store: SnapshotStore | None) -> NoMark:
    info = await log.info()
    text = f"{log.url} has no mark {_text(name)!r}"
    if info.first_offset == 1:
        return NoMark(f"{text}; eventdb log marks lists them")
    text = f"{text}: it keeps the transactions from {info.first_offset} on"
    if store is None:
        return NoMark(f"{text}, and of the marks before only its snapshots know (--store)")
    gone = [mark for mark in await trimmed(log, store) if mark.name == name]
    if not gone:
        return NoMark(f"{text}, and no snapshot in {store.url} has it either; eventdb log marks lists them")
    mark = gone[-1]
    exact = [each.name for each in await newest(store, info.log_id) if each.offset == mark.offset]
    rest = f"snapshot {exact[0]} is of that offset: --to-offset {mark.offset}" if exact else "no state of it is left"
    return NoMark(f"{text}, and the mark stood at offset {mark.offset}, {format_ms(mark.time_ms)}; {rest}")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


async def check_mark(log: Log, name: bytes, offset: int) -> None:
    """Raises NoMark if the mark was not set in this log at this offset, or if that was trimmed away."""
    try:
        record = await record_at(log, offset)
    except Trimmed:
        first = (await log.info()).first_offset
        raise NoMark(
            f"mark {_text(name)!r} stands at offset {offset}, and {log.url} keeps the transactions from {first} on;"
            f" a snapshot of just that offset would do (TO OFFSET {offset})"
        ) from None
    transaction = decode(record)[offset - record.first_offset]
    if name not in [mark.name for mark in marks_in(transaction, offset)]:
        raise NoMark(f"the mark is of another log, which a file came from: {log.url} has it not at offset {offset}")
