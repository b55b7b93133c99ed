"""A machine of a few lines, and logs made by hand, for the tests of replay."""

from __future__ import annotations

import hashlib
import json

from eventdb.backends import Log, RecordKind, Writer
from eventdb.replay.machine import DamagedState, Read, Transaction, Write
from eventdb.replay.transaction import encode

START_MS = 1_700_000_000_000


class Notebook:
    """SET key value, DEL key, and nothing else; KeyError for any other event. `applied` counts transactions."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.applied = 0
        self.calls = 0

    def apply(self, transactions: list[Transaction]) -> int:
        self.calls += 1
        events = 0
        for transaction in transactions:
            for event in transaction[1:]:
                assert isinstance(event, list)
                words = [arg.decode("latin-1") for arg in event]
                if words[0] == "SET":
                    self.values[words[1]] = words[2]
                elif words[0] == "DEL":
                    del self.values[words[1]]
                else:
                    raise KeyError(event[0])
                events += 1
            self.applied += 1
        return events

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:32]

    def key_count(self) -> int:
        return len(self.values)

    def type_counts(self) -> dict[str, int]:
        return {"string": len(self.values)} if self.values else {}

    def dump(self, write: Write, facts: dict[str, str]) -> None:
        write(b"REDIS0000" + json.dumps(self.values, sort_keys=True).encode())

    def load(self, read: Read) -> None:
        parts: list[bytes] = []
        while data := read(1 << 16):
            parts.append(data)
        try:
            self.values = json.loads(b"".join(parts)[9:])
        except ValueError as error:
            raise DamagedState(f"no notebook: {error}") from error


def set_transaction(key: str, value: str, origin: str = "127.0.0.1:1") -> Transaction:
    return [origin.encode(), [b"SET", key.encode(), value.encode()]]


class Scribe:
    """Writes records of transactions; record number r (from 0) is of START_MS + 1000 * r."""

    def __init__(self, log: Log, writer: Writer) -> None:
        self.log = log
        self.writer = writer
        self.records = 0

    @classmethod
    async def claim(cls, log: Log, node: str = "node-a") -> Scribe:
        return cls(log, await log.claim(node, "127.0.0.1:6379"))

    async def write(self, transactions: list[Transaction], time_ms: int | None = None) -> None:
        body = encode(transactions)
        await self.write_body(body, len(transactions), time_ms)

    async def write_body(self, body: bytes, count: int, time_ms: int | None = None) -> None:
        at_ms = START_MS + 1000 * self.records if time_ms is None else time_ms
        self.records += 1
        await self.writer.append(body, first_offset=self.writer.next_offset, count=count, time_ms=at_ms)

    async def heartbeat(self, time_ms: int) -> None:
        offset = self.writer.next_offset
        await self.writer.append(b"", first_offset=offset, count=0, time_ms=time_ms, kind=RecordKind.HEARTBEAT)

    async def write_kind(self, body: bytes, kind: RecordKind = RecordKind.HEARTBEAT) -> None:
        at_ms = START_MS + 1000 * self.records
        await self.writer.append(body, first_offset=self.writer.next_offset, count=0, time_ms=at_ms, kind=kind)

    async def fill(self, records: int, per_record: int) -> None:
        """`records` records of `per_record` transactions; transaction n is SET key:n n."""
        for _ in range(records):
            first = self.writer.next_offset
            await self.write([set_transaction(f"key:{n}", str(n)) for n in range(first, first + per_record)])


def keys_up_to(offset: int) -> dict[str, str]:
    """What a Notebook holds after `offset` transactions of Scribe.fill."""
    return {f"key:{n}": str(n) for n in range(1, offset + 1)}
