"""Streams: XREAD and XREADGROUP, which may wait. Source: redis src/t_stream.c (xreadCommand), src/blocked.c.

As with other blocking commands, a handler runs again for each key that became ready, `client.blocked` being set.
XREADGROUP waits for its group: when the group or the key has gone it is answered with an error at once. With CLAIM (of
Redis 8.4) it first takes over what waits too long for an XACK, and runs again when the next entry does.
"""

from __future__ import annotations

import heapq
from itertools import groupby
from typing import Final

from eventdb.commands.shared.lookups import stream_to_read
from eventdb.commands.shared.stream_groups import note_seen
from eventdb.commands.shared.stream_ids import parse_id
from eventdb.commands.shared.timeouts import parse_milliseconds
from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.keyspace.types.pending import Group
from eventdb.keyspace.types.stream import ID_MAX, StreamValue, id_text
from eventdb.protocol.errors import ReplyError, no_group, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import null_array

BLOCKED_COUNT: Final = 1000  # entries that end a wait at most when no COUNT is given
NEW: Final = b"$3\r\nNEW\r\n"
NOACK: Final = b"$5\r\nNOACK\r\n"
DOLLAR: Final = (
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by"
    " specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set."
)
UNBALANCED: Final = "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."
GREATER: Final = "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."


def find_stream_keys(argv: list[bytes]) -> list[bytes]:
    """The first half of what follows STREAMS."""
    at, n = 1, len(argv)
    while at < n:
        word = argv[at].upper()
        if word == b"STREAMS":
            count = n - at - 1
            return argv[at + 1 : at + 1 + count // 2] if count % 2 == 0 else []
        if word == b"BLOCK" or word == b"COUNT" or word == b"CLAIM":
            at += 2
        elif word == b"GROUP":
            at += 3
        elif word == b"NOACK":
            at += 1
        else:
            break
    return []


class Asked:
    """The arguments of a call."""

    def __init__(self, client: Client, argv: list[bytes], grouped: bool) -> None:
        self.wait_ms = -1  # -1: it does not wait
        self.count = 0  # 0: all
        self.idle_ms = -1  # CLAIM: entries that wait for so long are taken over; -1: none
        self.waits_for_ack = True
        self.group = b""
        self.consumer = b""
        self.first = 0  # where the keys stand
        self.keys: list[bytes] = []
        self.ids: list[int] = []  # ID_MAX is >
        has_group = False
        at, n = 1, len(argv)
        while at < n:
            word, left = argv[at].upper(), n - at - 1
            if word == b"BLOCK" and left:
                at += 1
                self.wait_ms = parse_milliseconds(argv[at], client.store.now_ms)
            elif word == b"COUNT" and left:
                at += 1
                self.count = max(0, parse_int(argv[at]))
            elif word == b"STREAMS" and left:
                self.first = at + 1
                break
            elif word == b"GROUP" and left >= 2:
                if not grouped:
                    raise ReplyError("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")
                self.group, self.consumer = argv[at + 1], argv[at + 2]
                has_group = True
                at += 2
            elif word == b"CLAIM" and left:
                if not grouped:
                    raise ReplyError("ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead.")
                at += 1
                self.idle_ms = parse_int(argv[at], "ERR min-idle-time is not an integer")
                if self.idle_ms < 0:
                    raise ReplyError("ERR min-idle-time must be a positive integer")
            elif word == b"NOACK":
                if not grouped:
                    raise ReplyError("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")
                self.waits_for_ack = False
            else:
                raise syntax_error()
            at += 1
        if self.first:
            if (n - self.first) % 2:
                raise ReplyError(UNBALANCED)
            self.keys = argv[self.first : self.first + (n - self.first) // 2]
        else:
            raise syntax_error()
        if grouped and not has_group:
            raise ReplyError("ERR Missing GROUP option for XREADGROUP")

    def id_of(self, key: bytes) -> int:
        """What was asked of a key; of one that is named twice the first counts, as in Redis."""
        return self.ids[self.keys.index(key)]


def keyed(client: Client, streams: list[tuple[bytes, int, bytes]]) -> bytes:
    """The reply: of each stream its key and its entries, already encoded, with their count."""
    parts: list[bytes] = [b"%%%d\r\n" % len(streams) if client.resp3 else b"*%d\r\n" % len(streams)]
    for key, total, data in streams:
        if not client.resp3:
            parts.append(b"*2\r\n")
        parts.append(b"$%d\r\n%b\r\n*%d\r\n" % (len(key), key, total))
        parts.append(data)
    return b"".join(parts)


@command(
    "XREAD", arity=-4, flags="readonly blocking movablekeys", find_keys=find_stream_keys, acl="stream",
    group="stream", since="5.0.0", complexity="O(N) for N entries returned, of each stream",
    summary="Returns the entries after an id, of one or more streams, or waits until there is one.",
)  # fmt: skip
def xread(client: Client, argv: list[bytes]) -> bytes:
    asked = Asked(client, argv, False)
    n = len(asked.keys)
    resolved: list[bytes] = []  # ids as they are when the client is going to wait
    for i, key in enumerate(asked.keys):
        text = argv[asked.first + n + i]
        value = stream_to_read(client, key) if client.blocked is None else None
        if text == b"$":
            asked.ids.append(0 if value is None else value.last_id)
            text = id_text(asked.ids[i])
        elif text == b">":
            raise ReplyError(GREATER)
        else:
            asked.ids.append(parse_id(text))
        resolved.append(text)
    blocked = client.blocked
    if blocked is not None:
        waited = client.lookup(blocked.ready)
        after = asked.id_of(blocked.ready)
        if not isinstance(waited, StreamValue) or waited.newest_id() <= after:
            return client.block(argv, asked.keys, asked.wait_ms, null_array(client.resp3))
        return keyed(client, [(blocked.ready, *waited.range(after + 1, ID_MAX, asked.count or BLOCKED_COUNT))])
    found: list[tuple[bytes, int, bytes]] = []
    for key, after in zip(asked.keys, asked.ids, strict=True):
        value = stream_to_read(client, key)
        if value is not None and value.newest_id() > after:
            found.append((key, *value.range(after + 1, ID_MAX, asked.count)))
    if found:
        return keyed(client, found)
    if asked.wait_ms < 0:
        return null_array(client.resp3)
    return client.block([*argv[: asked.first + n], *resolved], asked.keys, asked.wait_ms, null_array(client.resp3))


def deliver(
    client: Client, asked: Asked, key: bytes, value: StreamValue, group: Group, count: int
) -> tuple[int, bytes]:
    """Give new entries to the consumer; returns how many, and the entries."""
    ids, data = value.after(group.last_id, count)
    now_ms = client.store.now_ms
    if client.store.undo is not None:
        client.store.undo.keep(client.db, key)
    # Applied here as apply_xreadgroup does, so that the entries are looked for once.
    value.give(group, asked.consumer, ids, now_ms, asked.waits_for_ack)
    name, consumer, n = asked.group, asked.consumer, len(ids)
    ms, total = b"%d" % now_ms, b"%d" % n
    event = (
        b"*7\r\n$10\r\nXREADGROUP\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b"
        % (len(key), key, len(name), name, len(consumer), consumer, len(ms), ms, len(total), total,
           NEW if asked.waits_for_ack else NOACK)
    )  # fmt: skip
    client.store.record(client.db, key, event)
    return n, data


def history(
    client: Client, asked: Asked, key: bytes, value: StreamValue, group: Group, after: int
) -> tuple[int, bytes]:
    """What the consumer was given before and has not acknowledged; an entry that was deleted is its id and nothing."""
    consumer = group.consumers.get(asked.consumer)
    ids = consumer.pending.ids(after + 1, ID_MAX, asked.count or -1) if consumer is not None else []
    parts: list[bytes] = []
    again = False
    for eid in ids:
        entry = value.entry(eid)
        if entry is None:
            text = id_text(eid)
            entry = b"*2\r\n$%d\r\n%b\r\n%b" % (len(text), text, null_array(client.resp3))
        else:
            again = True
        parts.append(entry)
    if again:
        client.emit(
            [b"XREADGROUP", key, asked.group, asked.consumer, b"%d" % client.store.now_ms, b"%d" % len(ids), b"AFTER",
             id_text(after)]
        )  # fmt: skip
    else:
        note_seen(client, key, asked.group, group, asked.consumer)
    return len(ids), b"".join(parts)


def _go_on(client: Client, argv: list[bytes], asked: Asked, key: bytes) -> bytes:
    """A blocked XREADGROUP runs again, for a key that changed."""
    value = client.lookup(key)
    if not isinstance(value, StreamValue):
        raise ReplyError("UNBLOCKED the stream key no longer exists")
    group = value.groups.get(asked.group)
    if group is None:
        raise ReplyError("NOGROUP the consumer group this client was blocked on no longer exists")
    if asked.idle_ms >= 0:
        found = take_over(client, asked, [(key, value, group)], asked.count or BLOCKED_COUNT)
        if found:
            return keyed(client, found)
        wait_for_idle(client, argv, asked)
    elif value.newest_id() > group.last_id:
        return keyed(client, [(key, *deliver(client, asked, key, value, group, asked.count or BLOCKED_COUNT))])
    return client.block(argv, asked.keys, asked.wait_ms, null_array(client.resp3))


def claim(
    client: Client, asked: Asked, key: bytes, value: StreamValue, group: Group, count: int
) -> tuple[int, list[bytes]]:
    """Take over entries that have waited long enough, the longest first; what was deleted stays where it is."""
    now_ms = client.store.now_ms
    before_ms = now_ms - asked.idle_ms
    nacks = group.pending.nacks
    waiting = [(nack.at_ms, eid) for eid, nack in nacks.items() if nack.at_ms <= before_ms and value.has(eid)]
    chosen = heapq.nsmallest(count, waiting) if count else sorted(waiting)
    parts: list[bytes] = []
    given: list[tuple[int, bytes]] = []
    for at_ms, eid in chosen:
        entry = value.entry(eid)
        assert entry is not None
        times = nacks[eid].count
        given.append((times + 1, id_text(eid)))
        parts.append(b"*4%b:%d\r\n:%d\r\n" % (entry[2:], now_ms - at_ms, times))
    for times, same in groupby(given, lambda one: one[0]):
        client.emit(
            [b"XCLAIM", key, asked.group, asked.consumer, b"%d" % now_ms, b"%d" % now_ms, b"%d" % times,
             *[one[1] for one in same]]
        )  # fmt: skip
    return len(parts), parts


def take_over(
    client: Client, asked: Asked, streams: list[tuple[bytes, StreamValue, Group]], count: int
) -> list[tuple[bytes, int, bytes]]:
    """With CLAIM: of all streams first what waits too long, then what is new, `count` in all (0: any number)."""
    left = count
    totals: list[int] = []
    entries: list[list[bytes]] = []
    for key, value, group in streams:
        total, parts = claim(client, asked, key, value, group, left) if left or not count else (0, [])
        left -= total
        totals.append(total)
        entries.append(parts)
    for i, (key, value, group) in enumerate(streams):
        if (left > 0 or not count) and value.newest_id() > group.last_id:
            ids, _ = value.after(group.last_id, left if count else 0)
            total, _data = deliver(client, asked, key, value, group, len(ids))
            left -= total
            totals[i] += total
            for eid in ids:
                entry = value.entry(eid)
                assert entry is not None
                entries[i].append(b"*4%b:0\r\n:0\r\n" % entry[2:])
    return [(streams[i][0], totals[i], b"".join(entries[i])) for i in range(len(streams)) if totals[i]]


def wait_for_idle(client: Client, argv: list[bytes], asked: Asked) -> None:
    """The blocked client runs again when the next entry has waited long enough."""
    blocked = client.blocked
    if blocked is None:
        return
    blocked.again_ms = 0
    for i, key in enumerate(asked.keys):
        value = client.db.values.get(key)
        if argv[asked.first + len(asked.keys) + i] != b">" or not isinstance(value, StreamValue):
            continue
        group = value.groups.get(asked.group)
        for eid, nack in group.pending.nacks.items() if group is not None else ():
            due_ms = nack.at_ms + asked.idle_ms
            if (not blocked.again_ms or due_ms < blocked.again_ms) and value.has(eid):
                blocked.again_ms, blocked.again_key = due_ms, key


@command(
    "XREADGROUP", arity=-7, flags="write blocking movablekeys", find_keys=find_stream_keys, acl="stream",
    group="stream", since="5.0.0", complexity="O(N) for N entries returned, of each stream",
    summary="Gives a consumer of a group its next entries, or what it has not acknowledged; may wait for one.",
)  # fmt: skip
def xreadgroup(client: Client, argv: list[bytes]) -> bytes:
    asked = Asked(client, argv, True)
    if client.blocked is not None:
        return _go_on(client, argv, asked, client.blocked.ready)
    streams: list[tuple[bytes, StreamValue, Group]] = []
    for i, key in enumerate(asked.keys):
        value = stream_to_read(client, key)
        group = None if value is None else value.groups.get(asked.group)
        if value is None or group is None:
            raise no_group(key, asked.group, " in XREADGROUP with GROUP option")
        text = argv[asked.first + len(asked.keys) + i]
        if text == b"$":
            raise ReplyError(DOLLAR)
        asked.ids.append(ID_MAX if text == b">" else parse_id(text))
        streams.append((key, value, group))
    found: list[tuple[bytes, int, bytes]] = []
    if asked.idle_ms >= 0:
        new = [stream for stream, after in zip(streams, asked.ids, strict=True) if after == ID_MAX]
        found += take_over(client, asked, new, asked.count)
    for (key, value, group), after in zip(streams, asked.ids, strict=True):
        if after != ID_MAX:
            found.append((key, *history(client, asked, key, value, group, after)))
        elif asked.idle_ms < 0 and value.newest_id() > group.last_id:
            found.append((key, *deliver(client, asked, key, value, group, asked.count)))
    if found:
        return keyed(client, found)
    if asked.wait_ms < 0:
        return null_array(client.resp3)
    reply = client.block(argv, asked.keys, asked.wait_ms, null_array(client.resp3), until_gone=True)
    if asked.idle_ms >= 0:
        wait_for_idle(client, argv, asked)
    return reply
