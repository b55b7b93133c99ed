"""Writes values and whole files in version 10 of Redis's format, which Redis 7.0 and later and Valkey read.

Only the plain encodings are written: a server that loads them packs small values by its own limits. Nothing is
compressed here. A file goes out in pieces of a megabyte, so its size does not matter.
Source: redis src/rdb.c (rdbSaveRio, rdbSaveObject).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from eventdb.keyspace.databases import Db, Keyspace
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.set import SetValue
from eventdb.keyspace.types.stream import StreamValue
from eventdb.keyspace.types.timed_hash import TimedHash
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.rdb import codes
from eventdb.rdb.codes import Unkept
from eventdb.rdb.listpack import ListpackWriter
from eventdb.rdb.out import PIECE_BYTES, Out
from eventdb.rdb.streams import activity, write_stream


def write_value(value: object, out: Out) -> None:
    """A value, after its type and key."""
    if isinstance(value, (bytes, bytearray)):
        out.string(value)
    elif isinstance(value, ListValue):
        out.length(value.size())
        _write_strings(value.front[::-1], out)
        _write_strings(value.back, out)
    elif isinstance(value, SetValue):
        out.length(len(value.members))
        _write_strings(list(value.members), out)
    elif isinstance(value, TimedHash) and value.deadlines:
        _write_timed(value, out)
    elif isinstance(value, HashValue):
        out.length(len(value.fields))
        for field, text in value.fields.items():
            out.string(field)
            out.string(text)
            if out.size >= PIECE_BYTES:
                out.flush_if_large()
    elif isinstance(value, ZSetValue):
        out.length(len(value.scores))
        for member, score in value.scores.items():
            out.string(member)
            out.raw(struct.pack("<d", score))
            if out.size >= PIECE_BYTES:
                out.flush_if_large()
    else:
        assert isinstance(value, StreamValue)
        write_stream(value, out)


def _write_timed(value: TimedHash, out: Out) -> None:
    """Each field's deadline is counted from the earliest one, beginning with 1; 0: it has none."""
    first_ms = min(value.deadlines.values())
    out.raw(first_ms.to_bytes(8, "little", signed=True))
    out.length(len(value.fields))
    for field, text in value.fields.items():
        at_ms = value.deadlines.get(field)
        out.length(0 if at_ms is None else at_ms - first_ms + 1)
        out.string(field)
        out.string(text)
        if out.size >= PIECE_BYTES:
            out.flush_if_large()


def _write_strings(found: list[bytes], out: Out) -> None:
    for each in found:
        out.string(each)
        if out.size >= PIECE_BYTES:
            out.flush_if_large()


def type_of(value: object) -> int:
    """The type that a value is written as."""
    if isinstance(value, (bytes, bytearray)):
        return codes.STRING
    if isinstance(value, TimedHash):
        return codes.HASH_METADATA if value.deadlines else codes.HASH
    if type(value) is HashValue:  # a kind of hash that has more to it must not go out as a plain one
        return codes.HASH
    if isinstance(value, ListValue):
        return codes.LIST
    if isinstance(value, SetValue):
        return codes.SET
    if isinstance(value, ZSetValue):
        return codes.ZSET_2
    if isinstance(value, StreamValue):
        return codes.STREAM_LISTPACKS_2
    raise Unkept(f"version {codes.VERSION} of Redis's format has no place for a {type(value).__name__}")


class FileWriter:
    """One file: begin, then libraries, then databases, then end."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.out = Out(write, PIECE_BYTES)
        self.key_count = 0

    def begin(self, facts: dict[str, str], version: int = codes.VERSION) -> None:
        """The header, and facts about the file that a server shows or ignores."""
        self.out.raw(b"REDIS%04d" % version)
        for name, text in facts.items():
            self.out.raw(b"%c" % codes.AUX)
            self.out.string(name.encode())
            self.out.string(text.encode())

    def state(self, keyspace: Keyspace) -> None:
        """What is no key: users, marks, and the outcomes of commands with a token."""
        for name, rules in keyspace.users.items():
            self._fact(codes.USER, [name, rules])
        for mark in keyspace.marks.values():
            self._fact(codes.MARKED, mark.arguments())
        outcomes = keyspace.outcomes
        if outcomes.forgotten_ms:
            self._fact(codes.FORGOTTEN, [b"%d" % outcomes.forgotten_ms])
        for each in outcomes.oldest_first:
            replies = [each.reply] if each.reply2 == each.reply else [each.reply, each.reply2]
            self._fact(codes.OUTCOME, [each.token, b"%d" % each.at_ms, b"%d" % each.offset, each.fingerprint, *replies])

    def library(self, code: bytes) -> None:
        """A library of functions: its source. All of them stand before the databases."""
        self.out.raw(b"%c" % codes.FUNCTION2)
        self.out.string(code)

    def database(self, db: Db) -> None:
        """All keys of a database, those too whose deadlines have passed. It must not change meanwhile."""
        self.open(db)
        for key in db.values:
            self.pair(db, key)

    def open(self, db: Db) -> None:
        out = self.out
        out.raw(b"%c" % codes.SELECTDB)
        out.length(db.index)
        out.raw(b"%c" % codes.RESIZEDB)
        out.length(len(db.values))
        out.length(len(db.expires))

    def pair(self, db: Db, key: bytes) -> None:
        """One key, its deadline and its value."""
        out = self.out
        value = db.values[key]
        self.key_count += 1
        if type(value) is bytes and key not in db.expires:  # what most keys are
            out.raw(b"\0")
            out.string(key)
            out.string(value)
            if out.size >= PIECE_BYTES:
                out.flush()
            return
        at_ms = db.expires.get(key) if db.expires else None
        if isinstance(value, StreamValue):
            self._activity(value)
        if at_ms is not None:
            out.raw(b"%c%b" % (codes.EXPIRETIME_MS, at_ms.to_bytes(8, "little", signed=True)))
        out.raw(b"%c" % type_of(value))
        out.string(key)
        write_value(value, out)
        if out.size >= PIECE_BYTES:
            out.flush()

    def _activity(self, value: StreamValue) -> None:
        found = activity(value)
        if found:
            self._fact(codes.ACTIVITY, found)

    def _fact(self, name: bytes, parts: list[bytes]) -> None:
        """A fact of our own, which other servers pass over."""
        pack = ListpackWriter()
        for part in parts:
            pack.string(part)
        out = self.out
        out.raw(b"%c" % codes.AUX)
        out.string(name)
        out.string(pack.made())
        if out.size >= PIECE_BYTES:
            out.flush()

    def end(self) -> None:
        out = self.out
        out.raw(b"%c" % codes.EOF)
        out.flush()
        out.raw(out.sum.to_bytes(8, "little"))
        out.flush()


def write_libraries(target: Callable[[bytes], object], sources: list[bytes], facts: dict[str, str]) -> None:
    """Write a file of libraries of functions and nothing else."""
    file = FileWriter(target)
    file.begin(facts)
    for code in sources:
        file.library(code)
    file.end()


def has_timed(keyspace: Keyspace) -> bool:
    """Whether some field of a hash has a deadline, which only version 12 has a place for."""
    for db in keyspace.dbs:
        for key in db.timed:
            value = db.values.get(key)
            if isinstance(value, TimedHash) and value.deadlines:
                return True
    return False


def write(target: Callable[[bytes], object], keyspace: Keyspace, facts: dict[str, str]) -> int:
    """Write the whole state as one file; returns how many keys that was."""
    file = FileWriter(target)
    file.begin(facts, codes.VERSION_TIMED if has_timed(keyspace) else codes.VERSION)
    for code in keyspace.libraries.code.values():
        file.library(code)
    file.state(keyspace)
    for db in keyspace.dbs:
        if db.values:
            file.database(db)
    file.end()
    return file.key_count
