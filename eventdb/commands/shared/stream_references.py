"""What consumer groups still need of a stream: KEEPREF, DELREF and ACKED. Source: redis src/t_stream.c of 8.2.

An entry is needed while a group has it pending, or has not been given it yet.
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.keyspace.types.stream import StreamValue, id_text

REFERENCES: Final = (b"KEEPREF", b"DELREF", b"ACKED")
PAGE: Final = 100  # entries looked at in one piece


def is_needed(value: StreamValue, eid: int) -> bool:
    return any(eid > group.last_id or eid in group.pending.nacks for group in value.groups.values())


def drop_references(client: Client, key: bytes, value: StreamValue, last: int) -> None:
    """Let every group forget the pending entries up to `last` that are still there, which are about to go."""
    for name in sorted(value.groups):
        ids = [id_text(eid) for eid in value.groups[name].pending.ids(0, last, -1) if value.has(eid)]
        if ids:
            client.emit([b"XACK", key, name, *ids])


def forget(client: Client, key: bytes, value: StreamValue, ids: dict[int, None]) -> None:
    """Let every group forget these entries, be they in the stream or not."""
    for name in sorted(value.groups):
        nacks = value.groups[name].pending.nacks
        found = [id_text(eid) for eid in ids if eid in nacks]
        if found:
            client.emit([b"XACK", key, name, *found])


def trim_unneeded(client: Client, key: bytes, value: StreamValue, count: int, beyond: bool) -> int:
    """Of the first `count` entries, delete those that no group needs; `beyond`: as many, if later ones must do.

    Returns how many entries that was.
    """
    last = min(group.last_id for group in value.groups.values())  # what comes after it is needed
    gone: list[bytes] = []
    seen, at, head = 0, 0, 0  # head: how many go without one before them that stays
    while len(gone) < count and (beyond or seen < count):
        ids, _ = value.after(at, PAGE)
        for eid in ids:
            if eid > last or len(gone) == count or (seen == count and not beyond):
                break
            seen += 1
            at = eid
            if not is_needed(value, eid):
                gone.append(id_text(eid))
                head += len(gone) == seen
        if len(ids) < PAGE or at != ids[-1]:
            break
    if gone and len(gone) == head:
        client.emit([b"XTRIM", key, b"MAXLEN", b"%d" % (value.length - head)])
    elif gone:
        client.emit([b"XDEL", key, *gone])
    return len(gone)
