"""HyperLogLog: how many different elements there were, in 12 KiB. Source: redis src/hyperloglog.c.

Unlike Redis, PFCOUNT does not keep its result inside the value: a read never writes. A result that Redis kept there is
used. So the values of the two differ in these eight bytes at most, which are marked as outdated.
"""

from __future__ import annotations

import random
from typing import Final

from eventdb.commands.shared.lookups import string_to_read, string_to_write
from eventdb.commands.shared.string_changes import put_keeping_deadline
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.types.hyperloglog import (
    CARDINALITY_AT,
    DENSE,
    EMPTY,
    ENCODING_AT,
    REGISTERS,
    Bytes,
    Corrupt,
    SparseWriter,
    cached_count,
    count_of,
    dense,
    dense_patch,
    dense_rank,
    estimate,
    highest,
    is_valid,
    register_of,
    registers_of,
    runs,
)
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import OK, ONE, ZERO, array, bulk, integer, simple

NOT_VALID: Final = "WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPTED: Final = "INVALIDOBJ Corrupted HLL object detected"
OUTDATED_AT: Final = CARDINALITY_AT + 7


def checked(value: Bytes | None) -> Bytes | None:
    """Raises ReplyError for a string that is no HyperLogLog."""
    if value is not None and not is_valid(value):
        raise ReplyError(NOT_VALID)
    return value


def unpacked(value: Bytes) -> bytearray:
    try:
        return registers_of(value)
    except Corrupt:
        raise ReplyError(CORRUPTED) from None


def first_difference(a: Bytes, b: Bytes) -> int:
    """The first place where two strings differ; the length of the shorter one when it is the other's beginning."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def replace(client: Client, key: bytes, old: Bytes | None, new: Bytes) -> None:
    """Make `old`, which the key holds, `new`, by an event with what differs; the deadline stays."""
    if old is None:
        client.emit([b"SETRANGE", key, b"0", bytes(new)])
        return
    start, stop = first_difference(old, new), len(new)
    if len(new) < len(old):
        put_keeping_deadline(client, key, bytes(new))
        return
    if len(new) == len(old):
        if start == stop:
            return
        while new[stop - 1] == old[stop - 1]:
            stop -= 1
    client.emit([b"SETRANGE", key, b"%d" % start, bytes(new[start:stop])])


@command(
    "PFADD", arity=-2, flags="write denyoom fast", keys=(1, 1, 1), acl="hyperloglog", group="hyperloglog",
    since="2.8.9", complexity="O(1) for each element", summary="Adds elements to a HyperLogLog.",
)  # fmt: skip
def pfadd(client: Client, argv: list[bytes]) -> bytes:
    key = argv[1]
    value = checked(string_to_write(client, key))
    if value is not None and value[ENCODING_AT] == DENSE:
        return _add_dense(client, key, value, argv)
    writer = SparseWriter(EMPTY if value is None else value, client.store.keyspace.limits.hll_sparse_bytes)
    try:
        for i in range(2, len(argv)):
            index, rank = register_of(argv[i])
            writer.add(index, rank)
    except Corrupt:
        raise ReplyError(CORRUPTED) from None
    if value is not None and not writer.changed:
        return ZERO
    writer.value[OUTDATED_AT] |= 0x80
    replace(client, key, value, writer.value)
    return ONE


def _add_dense(client: Client, key: bytes, value: Bytes, argv: list[bytes]) -> bytes:
    """Log the registers that rise, a byte or two each."""
    changed = False
    for i in range(2, len(argv)):
        index, rank = register_of(argv[i])
        now = client.db.values[key]
        assert isinstance(now, (bytes, bytearray))
        if dense_rank(now, index) < rank:
            at, part = dense_patch(now, index, rank)
            client.emit([b"SETRANGE", key, b"%d" % at, part])
            changed = True
    if changed and not value[OUTDATED_AT] & 0x80:
        client.emit([b"SETRANGE", key, b"%d" % OUTDATED_AT, bytes((value[OUTDATED_AT] | 0x80,))])
    return ONE if changed else ZERO


@command(
    "PFCOUNT", arity=-2, flags="readonly", keys=(1, -1, 1), acl="hyperloglog", group="hyperloglog", since="2.8.9",
    complexity="O(N) for N keys, with a large constant",
    summary="Estimates how many different elements HyperLogLogs have together.",
)  # fmt: skip
def pfcount(client: Client, argv: list[bytes]) -> bytes:
    if len(argv) == 2:
        value = checked(string_to_read(client, argv[1]))
        if value is None:
            return ZERO
        count = cached_count(value)
        if count >= 0:
            return integer(count)
        try:
            return integer(count_of(bytes(value)))
        except Corrupt:
            raise ReplyError(CORRUPTED) from None
    merged = bytes(REGISTERS)
    for i in range(1, len(argv)):
        value = checked(string_to_read(client, argv[i]))
        if value is not None:
            merged = highest(merged, unpacked(value))
    return integer(estimate(merged))


@command(
    "PFMERGE", arity=-2, flags="write denyoom", keys=(1, -1, 1), acl="hyperloglog", group="hyperloglog",
    since="2.8.9", complexity="O(N) for N keys, with a large constant",
    summary="Makes a HyperLogLog hold all elements of itself and others.",
)  # fmt: skip
def pfmerge(client: Client, argv: list[bytes]) -> bytes:
    key = argv[1]
    merged = bytes(REGISTERS)
    is_dense = False
    for i in range(1, len(argv)):
        value = checked(string_to_read(client, argv[i]))
        if value is not None:
            is_dense = is_dense or value[ENCODING_AT] == DENSE
            merged = highest(merged, unpacked(value))
    old = string_to_write(client, key)
    made: Bytes = EMPTY if old is None else old
    if is_dense:
        made = dense(made, merged)
    else:
        writer = SparseWriter(made, client.store.keyspace.limits.hll_sparse_bytes)
        for index, rank in enumerate(merged):
            if rank:
                writer.add(index, rank)
        made = writer.value
    made[OUTDATED_AT] |= 0x80
    replace(client, key, old, made)
    return OK


@command(
    "PFDEBUG", arity=3, flags="write denyoom admin", keys=(2, 2, 1), acl="hyperloglog", group="hyperloglog",
    since="2.8.9", complexity="N/A", summary="Shows the inside of a HyperLogLog: ENCODING, DECODE, GETREG, TODENSE.",
)  # fmt: skip
def pfdebug(client: Client, argv: list[bytes]) -> bytes:
    key = argv[2]
    value = string_to_write(client, key)
    if value is None:
        raise ReplyError("ERR The specified key does not exist")
    checked(value)
    word = argv[1].upper()
    is_dense = value[ENCODING_AT] == DENSE
    if word == b"ENCODING":
        return simple(b"dense" if is_dense else b"sparse")
    if word == b"DECODE":
        if is_dense:
            raise ReplyError("ERR HLL encoding is not sparse")
        return bulk(b" ".join([_shown(rank, length) for rank, length in runs(value)]))
    if word not in (b"GETREG", b"TODENSE"):
        raise ReplyError(f"ERR Unknown PFDEBUG subcommand '{argv[1].decode('utf-8', 'surrogateescape')}'")
    registers = unpacked(value)
    if not is_dense:  # GETREG too, as in Redis
        replace(client, key, value, dense(value, registers))
    if word == b"TODENSE":
        return ZERO if is_dense else ONE
    return array([integer(rank) for rank in list(registers)])


def _shown(rank: int, length: int) -> bytes:
    if rank:
        return b"v:%d,%d" % (rank, length)
    return b"%b:%d" % (b"z" if length <= 64 else b"Z", length)


@command(
    "PFSELFTEST", arity=1, flags="admin", acl="hyperloglog", group="hyperloglog", since="2.8.9", complexity="N/A",
    summary="Checks the registers, both encodings and the error of the estimates.",
)  # fmt: skip
def pfselftest(client: Client, argv: list[bytes]) -> bytes:
    rng = random.Random(14)
    registers = bytearray(rng.randrange(64) for _ in range(REGISTERS))
    value = dense(EMPTY, registers)
    if registers_of(value) != registers or any(dense_rank(value, i) != registers[i] for i in range(REGISTERS)):
        raise ReplyError("ERR TESTFAILED a register of the dense encoding is not what was put into it")
    sparse, other = SparseWriter(EMPTY, 3000), bytearray(REGISTERS)
    added = 0
    for checkpoint in (1, 10, 100, 1000, 10_000):
        for n in range(added, checkpoint):
            index, rank = register_of(b"%d" % n)
            sparse.add(index, rank)
            other[index] = max(other[index], rank)
        added = checkpoint
        if registers_of(sparse.value) != other:
            raise ReplyError(f"ERR TESTFAILED sparse and dense encodings differ after {added} elements")
        if abs(estimate(other) - added) > max(10, 6 * 0.0081 * added):
            raise ReplyError(f"ERR TESTFAILED the estimate of {added} elements is {estimate(other)}")
    return OK
