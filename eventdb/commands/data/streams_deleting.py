"""XDELEX and XACKDEL: deleting entries with a say in what consumer groups remember of them.

Source: redis src/t_stream.c of 8.2. Logged as XACK and XDEL.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import stream_to_write
from eventdb.commands.shared.stream_ids import parse_id
from eventdb.commands.shared.stream_references import REFERENCES, forget, is_needed
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.types.stream import StreamValue, id_text
from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import ONE, array

MISSING: Final = b":-1\r\n"
NEEDED: Final = b":2\r\n"  # it stays: a group has not acknowledged it
NO_COUNT: Final = "ERR Number of IDs must be a positive integer"


def parse_options(argv: list[bytes], at: int) -> tuple[bytes, list[bytes]]:
    """What becomes of references, and the ids as they came."""
    refs = b""
    ids: list[bytes] = []
    n = len(argv)
    while at < n:
        word = argv[at].upper()
        if word in REFERENCES and not refs:
            refs = word
            at += 1
        elif word == b"IDS" and at + 1 < n and not ids:
            count = parse_int(argv[at + 1], NO_COUNT)
            if count < 1:
                raise ReplyError(NO_COUNT)
            if count > n - at - 2:
                raise ReplyError("ERR The `numids` parameter must match the number of arguments")
            ids = argv[at + 2 : at + 2 + count]
            at += 2 + count
        else:
            raise syntax_error()
    if not ids:
        raise ReplyError("ERR IDS option is required")
    return refs, ids


def delete(client: Client, key: bytes, value: StreamValue, refs: bytes, ids: dict[int, None]) -> None:
    """Delete what is there of these entries."""
    if refs == b"DELREF":
        forget(client, key, value, ids)
    found = [id_text(eid) for eid in ids if value.has(eid)]
    if found:
        client.emit([b"XDEL", key, *found])


@command(
    "XDELEX", arity=-5, flags="write fast", keys=(1, 1, 1), acl="stream", group="stream", since="8.2.0",
    complexity="O(N) for N ids",
    summary="Takes entries out of a stream, with or without what consumer groups remember of them.",
)  # fmt: skip
def xdelex(client: Client, argv: list[bytes]) -> bytes:
    value = stream_to_write(client, argv[1])
    refs, texts = parse_options(argv, 2)
    if value is None:
        return array([MISSING] * len(texts))
    gone: dict[int, None] = {}
    forgotten: dict[int, None] = {}
    replies: list[bytes] = []
    for eid in [parse_id(text) for text in texts]:
        there = value.has(eid) and eid not in gone
        if there and refs == b"ACKED" and is_needed(value, eid):
            replies.append(NEEDED)
            continue
        replies.append(ONE if there else MISSING)
        forgotten[eid] = None
        if there:
            gone[eid] = None
    delete(client, argv[1], value, refs, forgotten)
    return array(replies)


@command(
    "XACKDEL", arity=-6, flags="write fast", keys=(1, 1, 1), acl="stream", group="stream", since="8.2.0",
    complexity="O(N) for N ids",
    summary="Acknowledges entries for a group and takes them out of the stream.",
)  # fmt: skip
def xackdel(client: Client, argv: list[bytes]) -> bytes:
    key = argv[1]
    value = stream_to_write(client, key)
    refs, texts = parse_options(argv, 3)
    group = None if value is None else value.groups.get(argv[2])
    if value is None or group is None:
        return array([MISSING] * len(texts))
    acked: dict[int, None] = {}
    order: list[int] = []  # -1: it was not pending, or no more
    for eid in [parse_id(text) for text in texts]:
        waits = eid in group.pending.nacks and eid not in acked
        order.append(eid if waits else -1)
        if waits:
            acked[eid] = None
    if acked:
        client.emit([b"XACK", key, argv[2], *[id_text(eid) for eid in acked]])
    kept = {eid for eid in acked if is_needed(value, eid)} if refs == b"ACKED" else set()
    delete(client, key, value, refs, {eid: None for eid in acked if eid not in kept})
    return array([MISSING if eid < 0 else NEEDED if eid in kept else ONE for eid in order])
