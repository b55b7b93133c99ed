"""A record's body as transactions.

The body of a DATA record is `count` transactions, one after the other; each is one RESP array::

    *N+1  $… origin  *… event  *… event …        (an event: an array of bulk strings, `*3 $3 SET $1 k $1 v`)

RESP carries its own lengths, so nothing is added around a transaction, and hiredis parses it in C. One array header
before the body makes the whole of it a single reply: 0.28 µs a transaction where one `gets()` for each costs 2.2 µs,
because hiredis moves the rest of its buffer to the front after every reply.
"""

from __future__ import annotations

import hiredis

from eventdb.backends.log import Corrupt, Record
from eventdb.replay.machine import Transaction


def decode(record: Record) -> list[Transaction]:
    """The transactions of a DATA record. Raises Corrupt when the body does not hold exactly `count` of them."""
    count = record.count
    reader = hiredis.Reader()
    reader.feed(b"*%d\r\n" % count)
    reader.feed(record.body)
    try:
        found = reader.gets()
    except hiredis.HiredisError as error:
        raise damaged(record, f"is not RESP ({error})") from error
    if found is False:
        raise damaged(record, f"ends inside a transaction ({len(record.body)} bytes)")
    if reader.has_data():
        raise damaged(record, f"goes on after {count} transactions")
    for transaction in found:
        if type(transaction) is not list or len(transaction) < 2 or type(transaction[1]) is not list:
            raise damaged(record, f"holds something that is no transaction: {transaction!r:.80}")
    return found  # type: ignore[no-any-return]


def damaged(record: Record, what: str) -> Corrupt:
    """The error for a body that passed its checksum and still cannot be read: the fault of what wrote it."""
    first, last = record.first_offset, record.last_offset
    return Corrupt(f"the record at position {record.position} (offsets {first} to {last}, epoch {record.epoch}) {what}")


def encode(transactions: list[Transaction]) -> bytes:
    """The body that `decode` reads: for the part of a record before a cut."""
    parts: list[bytes] = []
    for transaction in transactions:
        parts.append(b"*%d\r\n" % len(transaction))
        for item in transaction:
            if isinstance(item, bytes):
                parts.append(b"$%d\r\n%b\r\n" % (len(item), item))
            elif len(item) == 3:  # as most events have, SET above all
                name, key, value = item
                parts.append(
                    b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
                    % (len(name), name, len(key), key, len(value), value)
                )
            else:
                parts.append(b"*%d\r\n" % len(item))
                for arg in item:
                    parts.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(parts)
