"""Reads a whole file as transactions in bounded pieces: versions 1 to 13 of Redis, and those of Valkey.

What eventdb cannot keep (the value of a module …) is refused by name, or passed over and counted when the
caller says so. A type that is not known cannot be passed over: nothing says where it ends.
Source: redis src/rdb.c rdbLoadRioWithLoadingCtx.
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.databases import DATABASES
from eventdb.keyspace.types.library import LIBRARY
from eventdb.keyspace.types.mark import MARK
from eventdb.keyspace.types.user import SET_USER
from eventdb.rdb import codes, listpack
from eventdb.rdb.codes import BadRdb, Unkept
from eventdb.rdb.source import Source
from eventdb.rdb.streams import read_activity
from eventdb.rdb.values import module_name, read_value, skip_module

PIECE_BYTES: Final = 256 << 10  # of events in one transaction, or one key
CHECKSUM_SINCE: Final = 5  # version
# Facts that are kept; a file may have any number of others.
FACTS: Final = frozenset(("redis-ver", "valkey-ver", "eventdb-ver", "eventdb-offset", "eventdb-log", "ctime"))
FACT_BYTES_MAX: Final = 256
STATE: Final[dict[bytes, tuple[int, ...]]] = {  # how many arguments each has
    codes.USER: (2,), codes.FORGOTTEN: (1,), codes.OUTCOME: (5, 6), codes.MARKED: (3, 4),
}  # fmt: skip
LENGTH_OF_RESIZE: Final = 2
LENGTHS_OF_SLOT: Final = 3


class FileReader:
    """One file from its header to its checksum. Raises BadRdb wherever it is damaged."""

    def __init__(self, source: Source, skip: bool = False, goes_on: bool = False) -> None:
        self.source = source
        self.goes_on = goes_on  # after its end comes something else: commands
        self.skip = skip
        self.skipped: dict[str, int] = {}  # what was passed over, and how often
        self.facts: dict[str, str] = {}
        self.key_count = 0
        self.db = 0
        self.ended = False
        self.activity = b""  # times of the consumers of the next key
        self.state: list[list[bytes]] = []  # events that make what is no key
        self.user_count = 0
        self.outcome_count = 0
        self.mark_count = 0
        self.library_count = 0
        self.version, self.valkey = _header(source)

    def piece(self, bytes_max: int = PIECE_BYTES) -> list[list[bytes]]:
        """The events of the next keys, as one transaction has them; [] at the end."""
        found: list[list[bytes]] = []
        source = self.source
        selected = 0
        size = 0
        at_ms = 0
        timed = False
        while not self.ended and (size < bytes_max or timed):
            began = source.position()
            kind = source.byte()
            if kind >= codes.SLOT_IMPORT:
                if kind == codes.EXPIRETIME_MS:
                    at_ms, timed = source.int64(), True
                elif kind == codes.EXPIRETIME:
                    at_ms, timed = 1000 * int.from_bytes(source.take(4), "little", signed=True), True
                else:
                    self._opcode(kind)
                if self.state:
                    found += self.state
                    self.state = []
                    size += source.position() - began + source.unpacked
                    source.unpacked = 0
                continue
            key = source.string()
            if kind == codes.STRING and not timed:  # what most keys are
                source.unpacked = 0
                value = source.string()
                if selected != self.db:
                    selected = self.db
                    found.append([b"SELECT", b"%d" % selected])
                found.append([b"SET", key, value])
                self.key_count += 1
                size += len(key) + len(value)
                source.unpacked = 0
                continue
            events = self._value(kind, key)
            size += source.position() - began + source.unpacked
            if events:
                if selected != self.db:
                    selected = self.db
                    found.append([b"SELECT", b"%d" % selected])
                found += events
                if timed:
                    found.append([b"PEXPIREAT", key, b"%d" % max(at_ms, 0)])
                self.key_count += 1
            timed = False
        return found

    def _value(self, kind: int, key: bytes) -> list[list[bytes]]:
        source = self.source
        try:
            if kind == codes.MODULE_2 and self.skip:
                self._count(f"value of the module {module_name(source.length())}")
                skip_module(source)
                return []
            events = read_value(source, kind, key, self.valkey)
            if self.activity:
                events += read_activity(self.activity, key, events)
                self.activity = b""
            return events
        except Unkept as unkept:
            raise Unkept(f"key {key[:64]!r} at byte {source.position()} holds {unkept}") from None
        except ValueError as error:
            raise BadRdb(f"key {key[:64]!r} cannot be read: {error}") from None

    def _count(self, what: str) -> None:
        self.skipped[what] = self.skipped.get(what, 0) + 1

    def _unkept(self, what: str) -> None:
        if not self.skip:
            raise Unkept(f"it holds a {what}, at byte {self.source.position()}")
        self._count(what)

    def _opcode(self, kind: int) -> None:
        source = self.source
        if kind == codes.AUX:
            raw, text = source.string(), source.string()
            name = raw.decode("utf-8", "replace")
            if raw == codes.ACTIVITY:
                self.activity = text
            elif raw in STATE:
                self._state(raw, text)
            elif name in FACTS:
                self.facts[name] = text[:FACT_BYTES_MAX].decode("utf-8", "replace")
        elif kind == codes.SELECTDB:
            self.db = source.length()
            if self.db >= DATABASES:
                raise Unkept(f"it has keys in database {self.db}, and eventdb has {DATABASES} of them")
        elif kind == codes.RESIZEDB:
            for _ in range(LENGTH_OF_RESIZE):
                source.length()
        elif kind == codes.IDLE:
            source.length()
        elif kind == codes.FREQ:
            source.byte()
        elif kind == codes.FUNCTION2:
            self._library(source.string())
        elif kind == codes.MODULE_AUX:
            name = module_name(source.length())
            skip_module(source)
            self._unkept(f"piece of data of the module {name}")
        elif kind == codes.SLOT_INFO:
            for _ in range(LENGTHS_OF_SLOT):
                source.length()
        elif kind == codes.EOF:
            self._end()
        elif kind == codes.SLOT_IMPORT and self.valkey:
            source.string()
            for _ in range(2 * source.length()):
                source.length()
            self._unkept("slot that was being moved")
        else:
            raise Unkept(f"it holds something that is not known, opcode {kind} at byte {source.position() - 1}")

    def _library(self, code: bytes) -> None:
        """A library of functions: its first line names it. What it holds is compiled when it is first called."""
        for word in code.split(b"\n", 1)[0].split():
            if word.startswith(b"name=") and code.startswith(b"#!"):
                self.library_count += 1
                self.state.append([LIBRARY, b"SET", word[5:], code])
                return
        raise BadRdb(f"it holds a library of functions without a name, at byte {self.source.position()}")

    def _state(self, name: bytes, data: bytes) -> None:
        """A user, a mark or an outcome, which an export of eventdb carries."""
        parts = listpack.read(data)
        if len(parts) not in STATE[name]:
            raise BadRdb(f"a fact {name.decode()} of {len(parts)} parts")
        if name == codes.USER:
            self.user_count += 1
            self.state.append([SET_USER, *parts])
        elif name == codes.OUTCOME:
            self.outcome_count += 1
            self.state.append([b"EVENTDB.RAN", *parts])
        elif name == codes.MARKED:
            self.mark_count += 1
            self.state.append([MARK, *parts])
        else:  # an outcome of that time, which is dropped
            self.state.append([b"EVENTDB.RAN", b"", parts[0], b"0", b"", b""])
            self.state.append([b"EVENTDB.FORGET", b"1"])

    def _end(self) -> None:
        """Compare the checksum; 0 stands for none, of a server with rdbchecksum no."""
        source = self.source
        if self.version >= CHECKSUM_SINCE:
            found = source.checksum()
            said = source.uint64()
            if said not in (0, found):
                raise BadRdb(f"its checksum is {found:016x} and it says {said:016x}: it is damaged")
        if not self.goes_on and not source.is_at_end():
            raise BadRdb(f"it goes on after its end, at byte {source.position()}")
        self.ended = True


def _header(source: Source) -> tuple[int, bool]:
    """The version, and whether it is one of Valkey's own."""
    try:
        head = source.take(9)
    except BadRdb:
        raise BadRdb("it is no RDB file: it is too short") from None
    for magic, valkey in ((b"REDIS", False), (b"VALKEY", True)):
        digits = head[len(magic) :]
        if head.startswith(magic) and digits.isdigit():
            version = int(digits)
            if (valkey and version == codes.VALKEY_VERSION) or (not valkey and 1 <= version <= codes.VERSION_MAX):
                return version, valkey
            known = str(codes.VALKEY_VERSION) if valkey else f"1 to {codes.VERSION_MAX}"
            raise Unkept(f"its version is {version} of {magic.decode().capitalize()}'s format; those read are {known}")
    raise BadRdb(f"it is no RDB file: it begins with {head!r}")
