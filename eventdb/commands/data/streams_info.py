"""Streams: XINFO. Source: redis src/t_stream.c (xinfoCommand, xinfoReplyWithStreamInfo).

With the fields that Redis 7.2 has more than 7.0: `inactive` and `active-time` of a consumer.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import stream_to_read
from eventdb.engine.client import Client
from eventdb.engine.registry import command, container
from eventdb.keyspace.types.pending import NEVER, UNKNOWN, Consumer, Group, Pending
from eventdb.keyspace.types.stream import ID_MAX, StreamValue, id_text
from eventdb.protocol.errors import NO_SUCH_KEY, ReplyError, no_group_for_key, wrong_subcommand
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import array, bulk, integer, lines, mapping, null

FULL_COUNT: Final = 10  # entries that FULL shows when no COUNT is given
HELP: Final = """
XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CONSUMERS <key> <group>
    The consumers of a group.
GROUPS <key>
    The groups of a stream.
STREAM <key> [FULL [COUNT <count>]]
    What a stream is; FULL: with its entries, groups and consumers.
HELP
    Print this help.
"""

container("XINFO", since="5.0.0", summary="Reports of a stream, its groups and their consumers.", group="stream")


def fields(items: list[tuple[bytes, bytes]], resp3: bool) -> bytes:
    """A map of names and encoded values."""
    flat: list[bytes] = []
    for name, value in items:
        flat += [bulk(name), value]
    return mapping(flat, resp3)


def stream_to_tell_of(client: Client, key: bytes) -> StreamValue:
    value = stream_to_read(client, key)
    if value is None:
        raise ReplyError(NO_SUCH_KEY)
    return value


def head_of(value: StreamValue) -> list[tuple[bytes, bytes]]:
    """What STREAM reports with and without FULL. The blocks stand for Redis's radix tree: one node each and a root."""
    blocks = len(value.blocks)
    return [
        (b"length", integer(value.length)),
        (b"radix-tree-keys", integer(blocks)),
        (b"radix-tree-nodes", integer(blocks + 1)),
        (b"last-generated-id", bulk(id_text(value.last_id))),
        (b"max-deleted-entry-id", bulk(id_text(value.max_deleted))),
        (b"entries-added", integer(value.entries_added)),
        (b"recorded-first-entry-id", bulk(id_text(value.first_id()))),
    ]


def read_and_lag(value: StreamValue, group: Group, resp3: bool) -> list[tuple[bytes, bytes]]:
    lag = value.lag(group)
    read = group.entries_read
    return [
        (b"entries-read", null(resp3) if read == UNKNOWN else integer(read)),
        (b"lag", null(resp3) if lag is None else integer(lag)),
    ]


def waiting(pending: Pending, count: int, with_owner: bool) -> bytes:
    """Entries that wait for an XACK, the oldest first; count 0: all."""
    found: list[bytes] = []
    for eid in pending.ids(0, ID_MAX, count or -1):
        nack = pending.nacks[eid]
        owner = [bulk(nack.owner.name)] if with_owner else []
        found.append(array([bulk(id_text(eid)), *owner, integer(nack.at_ms), integer(nack.count)]))
    return array(found)


def full_consumer(consumer: Consumer, count: int, resp3: bool) -> bytes:
    items = [
        (b"name", bulk(consumer.name)),
        (b"seen-time", integer(consumer.seen_ms)),
        (b"active-time", integer(consumer.active_ms)),
        (b"pel-count", integer(len(consumer.pending.nacks))),
        (b"pending", waiting(consumer.pending, count, False)),
    ]
    return fields(items, resp3)


def full_group(value: StreamValue, name: bytes, count: int, resp3: bool) -> bytes:
    group = value.groups[name]
    consumers = [full_consumer(group.consumers[one], count, resp3) for one in sorted(group.consumers)]
    items = [
        (b"name", bulk(name)),
        (b"last-delivered-id", bulk(id_text(group.last_id))),
        *read_and_lag(value, group, resp3),
        (b"pel-count", integer(len(group.pending.nacks))),
        (b"pending", waiting(group.pending, count, True)),
        (b"consumers", array(consumers)),
    ]
    return fields(items, resp3)


@command(
    "XINFO STREAM", arity=-3, flags="readonly", keys=(2, 2, 1), acl="stream", group="stream", since="5.0.0",
    summary="Reports of a stream: its length, its last id, and with FULL whatever it holds.",
)  # fmt: skip
def xinfo_stream(client: Client, argv: list[bytes]) -> bytes:
    value = stream_to_tell_of(client, argv[2])
    n, resp3, count = len(argv), client.resp3, FULL_COUNT
    if n > 3:
        if n not in (4, 6) or argv[3].upper() != b"FULL" or (n == 6 and argv[4].upper() != b"COUNT"):
            raise wrong_subcommand(argv)
        if n == 6:
            count = parse_int(argv[5])
            if count < 0:
                count = FULL_COUNT
        total, data = value.range(0, ID_MAX, count)
        groups = [full_group(value, name, count, resp3) for name in sorted(value.groups)]
        items = [*head_of(value), (b"entries", b"*%d\r\n%b" % (total, data)), (b"groups", array(groups))]
        return fields(items, resp3)
    first, last = value.entry(value.first_id()), value.entry(value.newest_id())
    items = [
        *head_of(value),
        (b"groups", integer(len(value.groups))),
        (b"first-entry", null(resp3) if first is None else first),
        (b"last-entry", null(resp3) if last is None else last),
    ]
    return fields(items, resp3)


@command(
    "XINFO GROUPS", arity=3, flags="readonly", keys=(2, 2, 1), acl="stream", group="stream", since="5.0.0",
    summary="Reports of the consumer groups of a stream.",
)  # fmt: skip
def xinfo_groups(client: Client, argv: list[bytes]) -> bytes:
    value = stream_to_tell_of(client, argv[2])
    found: list[bytes] = []
    for name in sorted(value.groups):
        group = value.groups[name]
        items = [
            (b"name", bulk(name)),
            (b"consumers", integer(len(group.consumers))),
            (b"pending", integer(len(group.pending.nacks))),
            (b"last-delivered-id", bulk(id_text(group.last_id))),
            *read_and_lag(value, group, client.resp3),
        ]
        found.append(fields(items, client.resp3))
    return array(found)


@command(
    "XINFO CONSUMERS", arity=4, flags="readonly", keys=(2, 2, 1), acl="stream", group="stream", since="5.0.0",
    tips="nondeterministic_output", summary="Reports of the consumers of a group.",
)  # fmt: skip
def xinfo_consumers(client: Client, argv: list[bytes]) -> bytes:
    group = stream_to_tell_of(client, argv[2]).groups.get(argv[3])
    if group is None:
        raise no_group_for_key(argv[2], argv[3])
    now_ms = client.store.now_ms
    found: list[bytes] = []
    for name in sorted(group.consumers):
        consumer = group.consumers[name]
        inactive = NEVER if consumer.active_ms == NEVER else max(0, now_ms - consumer.active_ms)
        items = [
            (b"name", bulk(name)),
            (b"pending", integer(len(consumer.pending.nacks))),
            (b"idle", integer(max(0, now_ms - consumer.seen_ms))),
            (b"inactive", integer(inactive)),
        ]
        found.append(fields(items, client.resp3))
    return array(found)


@command(
    "XINFO HELP", arity=2, flags="loading stale", acl="stream", group="stream", since="5.0.0",
    summary="Lists the subcommands.",
)  # fmt: skip
def xinfo_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
