"""What must hold, for every seed; each check returns what is wrong, in words.

The log is read once more at the end, by a process that nothing was ever done to: that is the history all others are
compared with.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from eventdb.backends import Record, RecordKind, Stretch
from eventdb.history.view import View
from eventdb.replay.transaction import decode
from tests.simulation.clients import ClientHistory, ReplicaRead
from tests.simulation.cluster import Seen, fingerprint
from tests.simulation.linearizable import Operation, TooHard, is_linearizable


def one_history(seen: Seen, stretches: list[Stretch]) -> list[str]:
    """Every reader saw the same records at the same positions, each a part of history without a gap."""
    wrong = list(seen.wrong)
    history = {record.position: fingerprint(record) for stretch in stretches for record in stretch.records}
    positions = sorted(history)
    for who, start, stop, got in seen.reads:
        due = tuple(_between(positions, start, stop))
        if got != due:
            wrong.append(f"two histories: {who} read positions {got} of [{start}, {stop}), history has {due}")
    for position, found in seen.records.items():
        if history.get(position, found) != found:
            wrong.append(f"two histories: {seen.by[position]} read {found} at {position}, history: {history[position]}")
    expected = 1
    for stretch in stretches:
        for record in stretch.records:
            if record.first_offset != expected:
                wrong.append(f"offset {expected} is missing at position {record.position}")
            expected = record.first_offset + record.count
    return wrong


def nothing_lost(seen: Seen, stretches: list[Stretch]) -> list[str]:
    """Every append that was acknowledged is in history where it was said to be."""
    history = {record.position: fingerprint(record) for stretch in stretches for record in stretch.records}
    return [
        f"acknowledged to {who} and lost: {found} at position {position}, where history has {history.get(position)}"
        for who, position, found in seen.durable
        if history.get(position) != found
    ]


def digests_agree(seen: Seen, stretches: list[Stretch]) -> list[str]:
    """Each node's state at an offset is the replay of history up to it."""
    view = View()
    at = {0: view.digest()}
    wanted = {offset for _who, offset, _digest in seen.digests}
    for offset, transaction in _transactions(stretches):
        view.apply([transaction])  # type: ignore[list-item]
        if offset in wanted:
            at[offset] = view.digest()
    return [
        f"{who} at offset {offset} has digest {digest}, history {at.get(offset)}"
        for who, offset, digest in sorted(seen.digests)
        if at.get(offset) != digest
    ]


def linearizable(operations: list[Operation], *, reads: bool) -> list[str]:
    """Key by key. Without `reads` only writes are held against the order, by what they themselves were told."""
    by_key: dict[bytes, list[Operation]] = {}
    for operation in operations:
        if reads or any(name != "get" for name, _value in operation.steps):
            by_key.setdefault(operation.key, []).append(operation)
    wrong: list[str] = []
    for key in sorted(by_key):
        try:
            if not is_linearizable(by_key[key]):
                wrong.append(f"not linearizable: key {key.decode()}, {len(by_key[key])} operations")
        except TooHard as error:
            wrong.append(f"too hard to tell whether key {key.decode()} is linearizable: {error}")
    return wrong


def acknowledged_values(operations: list[Operation], stretches: list[Stretch]) -> list[str]:
    """Every token that a client was told is written stands in history, once."""
    found: dict[bytes, int] = {}
    for _offset, transaction in _transactions(stretches):
        for event in transaction[1:]:
            assert isinstance(event, list)
            for word in event[2:]:
                if isinstance(word, bytes):
                    for token in word.split(b";")[-2:-1]:
                        found[token] = found.get(token, 0) + 1
    wrong: list[str] = []
    for operation in operations:
        if operation.returned == float("inf"):
            continue
        for name, value in operation.steps:
            if name in ("set", "append") and found.get(value[:-1], 0) != 1:
                wrong.append(f"acknowledged to a client, {found.get(value[:-1], 0)} times in history: {operation}")
    return wrong


def replicas_monotone(reads: Iterable[ReplicaRead], stretches: list[Stretch]) -> list[str]:
    """No client sees a replica go back, and what a replica answers is history at the offset it states."""
    reads = list(reads)
    wrong: list[str] = []
    latest: dict[str, int] = {}
    for read in reads:
        before = latest.get(read.connection, 0)
        if read.offset < before:
            wrong.append(f"{read.connection} went back from offset {before} to {read.offset}")
        latest[read.connection] = read.offset
    wanted: dict[int, list[ReplicaRead]] = {}
    for read in reads:
        wanted.setdefault(read.offset, []).append(read)
    view = View()
    values = view.keyspace.dbs[0].values

    def compare(offset: int) -> None:
        for read in wanted.pop(offset, ()):
            value = values.get(read.key)
            true = None if value is None else bytes(value)  # type: ignore[call-overload]
            if true != read.value:
                wrong.append(f"{read.connection} at offset {offset}: {read.key!r} is {read.value!r}, history: {true!r}")

    compare(0)
    for offset, transaction in _transactions(stretches):
        view.apply([transaction])  # type: ignore[list-item]
        compare(offset)
    wrong.extend(f"a replica has offset {offset}, which history does not have" for offset in sorted(wanted))
    return wrong


def history_checks(history: ClientHistory, seen: Seen, stretches: list[Stretch], *, reads: bool) -> list[str]:
    """All of them. `reads`: reads at primaries are never stale (not so when clocks run wild)."""
    return [
        *history.wrong,
        *one_history(seen, stretches),
        *nothing_lost(seen, stretches),
        *acknowledged_values(history.operations, stretches),
        *digests_agree(seen, stretches),
        *replicas_monotone(history.replica_reads, stretches),
        *linearizable(history.operations, reads=reads),
    ]


def _between(positions: list[int], start: int, stop: int) -> list[int]:
    return positions[bisect.bisect_left(positions, start) : bisect.bisect_left(positions, stop)]


def _transactions(stretches: list[Stretch]) -> Iterable[tuple[int, list[object]]]:
    for stretch in stretches:
        for record in stretch.records:
            yield from _of_record(record)


def _of_record(record: Record) -> Iterable[tuple[int, list[object]]]:
    if record.kind is RecordKind.DATA and record.count:
        for index, transaction in enumerate(decode(record)):
            yield record.first_offset + index, transaction  # type: ignore[misc]
