"""What must hold of all that clients were told, and of the log; each check returns what is wrong, in words."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from eventdb.history.view import View
from eventdb.keyspace.types.list import ListValue
from tests.chaos.clients import TOKEN_BYTES, ClientHistory, kind_of, result_of
from tests.simulation.linearizable import INFINITY, Operation, TooHard, is_linearizable

Events = list[list[bytes]]


@dataclass(frozen=True, slots=True)
class Transactions:
    """The log, as a reader that has no part in the cluster finds it."""

    offsets: list[int]
    events: list[Events]


async def read_log(url: str) -> Transactions:
    from eventdb.backends import open_log
    from eventdb.replay.inspect import tail

    log = open_log(url)
    found = Transactions([], [])
    try:
        async for entry in tail(log, claims=False):
            found.offsets.append(entry.offset)
            found.events.append([event for _database, event in entry.events])
    finally:
        await log.close()
    return found


def all_checks(history: ClientHistory, url: str, digests: set[object], offset: int) -> list[str]:
    """Every one of them, after all nodes have come to rest at `offset`."""
    transactions = asyncio.run(read_log(url))
    return [
        *history.wrong,
        *offsets_in_order(url),
        *log_is_sound(url),
        *digests_agree(url, digests, offset),
        *every_write_once(history, transactions),
        *linearizable(history.operations, transactions),
        *replicas_tell_history(history, transactions),
    ]


def _eventdb(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eventdb", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def offsets_in_order(url: str) -> list[str]:
    """`eventdb log tail --json` has the offsets 1 to N, none missing, none twice."""
    done = _eventdb("log", "tail", "--log", url, "--from", "1", "--json")
    if done.returncode:
        return [f"eventdb log tail: {done.stderr}"]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    offsets = [line["offset"] for line in lines if "offset" in line]  # the others are claims
    return [
        f"offset {expected} was expected in the log, and {found} stands there"
        for expected, found in enumerate(offsets, 1)
        if found != expected
    ][:3]


def log_is_sound(url: str) -> list[str]:
    done = _eventdb("log", "verify", "--log", url)
    return [] if done.returncode == 0 else [f"eventdb log verify: {done.stdout}{done.stderr}"]


def digests_agree(url: str, digests: set[object], offset: int) -> list[str]:
    done = _eventdb("log", "digest", "--log", url, "--at", str(offset), "--json")
    if done.returncode:
        return [f"eventdb log digest: {done.stderr}"]
    found = json.loads(done.stdout)["digest"].encode()
    return [] if digests == {found} else [f"the nodes have the digests {digests}, the log {found!r} at {offset}"]


def every_write_once(history: ClientHistory, transactions: Transactions) -> list[str]:
    """An acknowledged value is in the log once, one of unknown outcome at most once, a refused one never."""
    found = Counter(event[-1] for events in transactions.events for event in events if _has_token(event))
    wrong: list[str] = []
    for operation in history.operations:
        known = operation.returned < INFINITY
        for token in _tokens(operation):
            if found[token] > 1 or (known and found[token] != 1):
                wrong.append(f"{found[token]} times in the log: {operation}")
    wrong += [
        f"refused, and in the log: {operation}"
        for operation in history.refused
        if any(found[token] for token in _tokens(operation))
    ]
    return wrong + _counters(history, transactions)


def _has_token(event: list[bytes]) -> bool:
    return event[0] in (b"SET", b"APPEND", b"RPUSH") and len(event[-1]) == TOKEN_BYTES


def _tokens(operation: Operation) -> Iterable[bytes]:
    return (value for name, value in operation.steps if name in ("set", "append"))


def _counters(history: ClientHistory, transactions: Transactions) -> list[str]:
    """A counter ends between the number of acknowledged increments and that of all that were not refused."""
    least: Counter[bytes] = Counter()
    most: Counter[bytes] = Counter()
    for operation in history.operations:
        count = sum(name == "incr" for name, _value in operation.steps)
        most[operation.key] += count
        least[operation.key] += count if operation.returned < INFINITY else 0
    values = _replayed(transactions).keyspace.dbs[0].values
    return [
        f"counter {key.decode()} is {int(values.get(key, 0))}, not between {least[key]} and {most[key]}"  # type: ignore[call-overload]
        for key in most
        if kind_of(key) == "c" and not least[key] <= int(values.get(key, 0)) <= most[key]  # type: ignore[call-overload]
    ]


def _replayed(transactions: Transactions) -> View:
    view = View()
    for events in transactions.events:
        view.apply([[b"", *events]])
    return view


def settled(operations: list[Operation], transactions: Transactions) -> list[Operation]:
    """What nobody was told, the log tells; without it the search has two outcomes to try for each lost reply.

    A write that the log does not have never happened: left out. One that it has happened before any write to the same
    key that stands behind it in the log had its answer. Both are more than a client may ask for, so no fault is hidden.
    The order of the writes is that of the log, which is the one that every node has applied.
    """
    at = places_of(transactions)
    places = [
        (operation, max((at.get(token, 0) for token in _tokens(operation)), default=0)) for operation in operations
    ]
    answered: dict[bytes, list[tuple[int, float]]] = {}
    for operation, place in places:
        if place and operation.returned < INFINITY:
            answered.setdefault(operation.key, []).append((place, operation.returned))
    found: list[Operation] = []
    for operation, place in places:
        if operation.returned < INFINITY or kind_of(operation.key) == "c":
            found.append(replace(operation, place=place))
        elif place:
            behind = (returned for other, returned in answered.get(operation.key, ()) if other > place)
            found.append(replace(operation, returned=min(behind, default=INFINITY), place=place))
    return found


def places_of(transactions: Transactions) -> dict[bytes, int]:
    """The offset at which each token stands in the log."""
    return {
        event[-1]: offset
        for offset, events in zip(transactions.offsets, transactions.events, strict=True)
        for event in events
        if _has_token(event)
    }


def stale_reads(operations: list[Operation], transactions: Transactions) -> dict[bytes, list[str]]:
    """By key: reads that miss a write which was acknowledged before they were asked. Quick and exact, where the log
    knows the order of the writes; a search that finds none of what it looks for tries everything first.

    A write's place is its offset in the log; of a counter, its number.
    """
    at = places_of(transactions)
    answered = [one for one in operations if one.returned < INFINITY]
    written: dict[bytes, list[tuple[float, int]]] = {}  # by key: since when, the highest place that was acknowledged
    for operation in sorted(answered, key=lambda one: one.returned):
        if kind_of(operation.key) == "c":
            place = max((told for told in operation.results or () if isinstance(told, int)), default=0)
        else:
            place = max((at.get(token, 0) for token in _tokens(operation)), default=0)
        seen = written.setdefault(operation.key, [(0.0, 0)])
        if place > seen[-1][1]:
            seen.append((operation.returned, place))
    wrong: dict[bytes, list[str]] = {}
    for operation in answered:
        seen = written[operation.key]
        due = seen[bisect_left(seen, (operation.called, 0)) - 1][1]
        for (name, _value), told in zip(operation.steps, operation.results or (), strict=True):
            if name != "get":
                continue
            value = told if isinstance(told, bytes) else b"0"
            shown = int(value) if kind_of(operation.key) == "c" else at.get(value[-TOKEN_BYTES:], 0)
            if shown < due:
                said = f"stale: shows {shown}, where {due} was acknowledged before: {operation}"
                wrong.setdefault(operation.key, []).append(said)
    return wrong


def linearizable(operations: list[Operation], transactions: Transactions) -> list[str]:
    stale = stale_reads(operations, transactions)
    by_key: dict[bytes, list[Operation]] = {}
    for operation in settled(operations, transactions):
        by_key.setdefault(operation.key, []).append(operation)
    wrong = [text for texts in stale.values() for text in texts]
    for key in sorted(by_key.keys() - stale.keys()):
        try:
            if not is_linearizable(by_key[key]):
                wrong.append(f"not linearizable: key {key.decode()}, {len(by_key[key])} operations")
        except TooHard as error:
            wrong.append(f"too hard to tell whether key {key.decode()} is linearizable: {error}")
    return wrong


def replicas_tell_history(history: ClientHistory, transactions: Transactions) -> list[str]:
    """No connection to a replica sees it go back, and what it answers is the log's state at the offset it states."""
    wrong: list[str] = []
    latest: dict[str, int] = {}
    wanted: dict[int, list[int]] = {}
    for index, read in enumerate(history.reads):
        if read.offset < latest.get(read.connection, 0):
            wrong.append(f"{read.connection} went back from offset {latest[read.connection]} to {read.offset}")
        latest[read.connection] = read.offset
        wanted.setdefault(read.offset, []).append(index)
    view = View()
    for offset, events in enumerate([[], *transactions.events]):
        if offset:
            view.apply([[b"", *events]])
        for index in wanted.pop(offset, ()):
            read = history.reads[index]
            wrong += [
                f"{read.connection} at offset {offset}: {key.decode()} is {value!r}, the log has {held!r}"
                for key, value in read.values.items()
                if (held := _value(view, key)) != value
            ]
    return wrong + [f"a replica states offset {offset}, which the log does not have" for offset in wanted]


def _value(view: View, key: bytes) -> object:
    value = view.keyspace.dbs[0].values.get(key)
    if isinstance(value, ListValue):
        return result_of(key, ("get", b""), value.slice(0, value.size()))
    return None if value is None else bytes(value)  # type: ignore[call-overload]
