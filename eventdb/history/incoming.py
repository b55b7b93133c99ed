"""Commands that Redis wrote, into an append-only file or to its replicas, become transactions of a log.

They run through the handlers that clients' commands run through, one transaction each, MULTI to EXEC one. What Redis
writes down has no chance and no clock in it: a key lives until its DEL comes, whatever its deadline says. So the clock
of the handlers stands at 0, and times that older servers wrote as so much from now are made absolute before.
"""

from __future__ import annotations

import time
from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.command import WRITE, Command
from eventdb.engine.engine import Engine
from eventdb.engine.registry import find_subcommand, unknown_command
from eventdb.engine.settings import Config
from eventdb.pipeline.commit import Commit
from eventdb.pipeline.outbox import Batch
from eventdb.protocol.errors import wrong_arity
from eventdb.rdb.codes import Unkept
from eventdb.replay.filling import Filling

ORIGIN: Final = b"import"
RECORD_BYTES: Final = 256 << 10
# What changes nothing by itself and is run all the same; other commands that write nothing are passed over.
RUN: Final = frozenset(("select", "eval", "evalsha", "fcall", "script", "script|load", "script|flush"))
CLOCKED: Final = frozenset((b"XCLAIM", b"XAUTOCLAIM", b"XGROUP"))  # they write down when a consumer was last seen
BY_EX: Final = {b"EX": 1000, b"PX": 1}


class _Nowhere:
    """The sink of a client that nobody listens to."""

    def write(self, data: bytes) -> None:
        pass

    def resume(self) -> None:
        pass

    def close(self) -> None:
        pass


def _not_sealed(_batch: Batch) -> None:
    raise AssertionError("its transactions are taken out of the store")


def make_engine() -> Engine:
    """An engine that commits nothing: for `Incoming`. The commands must be loaded."""
    return Engine(Config(), Commit(_not_sealed, lambda action: None))


class Incoming:
    """The way of such commands into a log that is being filled. strict: one that is refused ends it."""

    def __init__(self, engine: Engine, filling: Filling, offset: int, *, strict: bool, skip: bool = False) -> None:
        self.engine = engine
        self.filling = filling
        self.offset = offset  # of the last transaction made
        self.strict = strict
        self.skip = skip
        self.command_count = 0
        self.skipped: dict[str, int] = {}  # what was passed over or refused, and how often
        self.now_ms = 0  # by the source's own clock; 0: by this machine's
        self.time_ms = 0  # of the newest record
        self.client: Client = engine.connect(_Nowhere())
        self.queue: list[tuple[list[bytes], int]] | None = None  # inside MULTI
        engine.store.in_exec = True  # a command that would block gives up at once
        self._chunks: list[bytes] = []
        self._size = 0
        self._count = 0
        self._origin_at = 0  # in _chunks, of the newest transaction

    @property
    def waiting_bytes(self) -> int:
        """Of transactions that are not yet on their way."""
        return self._size

    def run(self, argv: list[bytes], at: int) -> bool:
        """One command, which begins before byte `at`; False inside MULTI, where nothing has happened yet.

        Raises Unkept for what cannot be kept.
        """
        self.command_count += 1
        name = argv[0].upper()
        if name == b"MULTI":
            self.queue = []
            return False
        if name == b"DISCARD":
            self.queue = None
            return True
        if name == b"EXEC":
            queue, self.queue = self.queue or [], None
            for queued, place in queue:
                self._run(queued, place)
        elif self.queue is not None:
            self.queue.append((argv, at))
            return False
        else:
            self._run(argv, at)
        if self.engine.store.events:
            self._close()
        return True

    def _run(self, argv: list[bytes], at: int) -> None:
        engine = self.engine
        command = engine.commands.get(argv[0]) or engine.commands.get(argv[0].upper())
        if command is None:
            self._pass_over(unknown_command(argv)[4:].partition(", with")[0], at)
            return
        if command.subcommands and len(argv) > 1:
            found = find_subcommand(command, argv)
            if isinstance(found, str):
                self._refused(argv, at, found)
                return
            command = found
        n = len(argv)
        if n != command.arity if command.arity >= 0 else n < -command.arity:
            self._refused(argv, at, wrong_arity(command.name).text)
            return
        if not command.bits & WRITE and command.name not in RUN:
            return
        self._invoke(command, argv, at)

    def _invoke(self, command: Command, argv: list[bytes], at: int) -> None:
        client, store = self.client, self.engine.store
        name = argv[0].upper()
        store.now_ms = 0
        if name in CLOCKED:
            store.now_ms = self._before_deadline(argv[2] if name == b"XGROUP" and len(argv) > 2 else argv[1])
        elif name in RELATIVE:
            argv = absolute(name, argv, self.now_ms or int(time.time() * 1000))
            command = self.engine.commands[argv[0].upper()]
        client.last_command = command
        reply = self.engine.invoke(client, command, argv)
        if reply[:1] == b"-":
            text = bytes(reply[1:]).rstrip().decode("utf-8", "replace")
            if command.name == "select":
                raise Unkept(f"byte {at}: SELECT {argv[1][:20].decode('latin-1')}: {text}")
            self._refused(argv, at, text)

    def _before_deadline(self, key: bytes) -> int:
        """The time now, or just before the deadline of a key: where the command comes from, the key was there."""
        now_ms = self.now_ms or int(time.time() * 1000)
        at_ms = self.client.db.expires.get(key)
        return now_ms if at_ms is None or at_ms > now_ms else at_ms - 1

    def _refused(self, argv: list[bytes], at: int, text: str) -> None:
        """As Redis does, go on after a command of a file that gives an error; in a stream it means that we differ."""
        name = argv[0][:32].decode("latin-1")
        if self.strict and not self.skip:
            raise Unkept(f"the command {name} that ends at byte {at} is refused: {text}")
        self._count_skipped(f"{name} that was refused: {text}")

    def _pass_over(self, what: str, at: int) -> None:
        if not self.skip:
            raise Unkept(f"it holds the {what}, which ends at byte {at}")
        self._count_skipped(what)

    def _count_skipped(self, what: str) -> None:
        self.skipped[what] = self.skipped.get(what, 0) + 1

    def _close(self) -> None:
        """The transaction is whole."""
        store = self.engine.store
        size = store.event_size
        events = store.taken()
        self._append(events)
        self._size += size

    def _append(self, events: list[bytes]) -> None:
        chunks = self._chunks
        chunks.append(b"*%d\r\n" % (len(events) + 1))
        self._origin_at = len(chunks)
        chunks.append(_bulk(ORIGIN))
        chunks += events
        self._count += 1

    def mark(self) -> None:
        """A transaction that changes nothing, for its origin."""
        self._append([b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"])

    def flush(self, origin: bytes = ORIGIN) -> None:
        """Send what is there on its way as one record, of which the last transaction bears `origin`."""
        if not self._count:
            return
        self._chunks[self._origin_at] = _bulk(origin)
        self.time_ms = max(self.time_ms, self.now_ms or int(time.time() * 1000))
        body, count = b"".join(self._chunks), self._count
        self._chunks, self._count, self._size = [], 0, 0
        self.filling.append(body, first_offset=self.offset + 1, count=count, time_ms=self.time_ms)
        self.offset += count
        self.engine.commit.open = Batch(1)  # whose dirty keys nobody asks for
        self.engine.deferred.clear()
        self.engine.store.ready = []


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


# -- times that count from now


def _absolute_set(argv: list[bytes], now_ms: int) -> list[bytes]:
    """SET and GETEX, whose options name the unit."""
    for i in range(2 if argv[0].upper() == b"GETEX" else 3, len(argv) - 1):
        unit = BY_EX.get(argv[i].upper())
        if unit is not None:
            return [*argv[:i], b"PXAT", _at(argv[i + 1], unit, now_ms), *argv[i + 2 :]]
    return argv


def _at(text: bytes, unit: int, now_ms: int) -> bytes:
    try:
        return b"%d" % (now_ms + unit * int(text))
    except ValueError:
        return text  # the handler refuses it


def _restore(argv: list[bytes], now_ms: int) -> list[bytes]:
    if argv[2] == b"0" or b"ABSTTL" in [option.upper() for option in argv[4:]]:
        return argv
    return [*argv[:2], _at(argv[2], 1, now_ms), *argv[3:], b"ABSTTL"]


def absolute(name: bytes, argv: list[bytes], now_ms: int) -> list[bytes]:
    """The same command with its time as a point in time."""
    if name in (b"SET", b"GETEX"):
        return _absolute_set(argv, now_ms) if len(argv) > 3 else argv
    if name == b"RESTORE":
        return _restore(argv, now_ms)
    if name in (b"SETEX", b"PSETEX"):
        return [b"SET", argv[1], argv[3], b"PXAT", _at(argv[2], RELATIVE[name], now_ms)]
    if name in (b"EXPIRE", b"PEXPIRE"):
        return [b"PEXPIREAT", argv[1], _at(argv[2], RELATIVE[name], now_ms), *argv[3:]]
    return [b"HPEXPIREAT", argv[1], _at(argv[2], RELATIVE[name], now_ms), *argv[3:]]


RELATIVE: Final[dict[bytes, int]] = {
    b"SET": 0, b"GETEX": 0, b"RESTORE": 0, b"SETEX": 1000, b"PSETEX": 1, b"EXPIRE": 1000, b"PEXPIRE": 1,
    b"HEXPIRE": 1000, b"HPEXPIRE": 1,
}  # fmt: skip
