"""Streams: consumer groups. Source: redis src/t_stream.c (xgroupCommand, xackCommand, xclaimCommand …).

Whatever a group remembers changes by an event: the time at which a consumer asked for something, too. XCLAIM and
XAUTOCLAIM are logged as XCLAIM of the ids that were claimed and XACK of those whose entries are gone.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.lookups import stream_to_read, stream_to_write
from eventdb.commands.shared.stream_groups import group_at, note_seen
from eventdb.commands.shared.stream_ids import parse_end, parse_id, parse_start
from eventdb.engine.client import Client
from eventdb.engine.registry import command, container
from eventdb.keyspace.types.pending import UNKNOWN, Group
from eventdb.keyspace.types.stream import ID_MAX, StreamValue, id_text
from eventdb.protocol.errors import COUNT_TOO_SMALL, ReplyError, no_group_for_key, shown, syntax_error, wrong_subcommand
from eventdb.protocol.numbers import INT64_MAX, parse_int
from eventdb.protocol.replies import EMPTY_ARRAY, OK, ONE, ZERO, array, bulk, integer, lines, null, null_array

NO_KEY: Final = (
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM"
    " option to create an empty stream automatically."
)
CLAIMS_MAX: Final = INT64_MAX // 16
LOOKS_PER_CLAIM: Final = 10  # XAUTOCLAIM looks at no more entries than COUNT times this
HELP: Final = """
XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CREATE <key> <group> <id|$> [MKSTREAM] [ENTRIESREAD <n>]
    Makes a group whose first entry is the one after the id. MKSTREAM makes the stream too.
CREATECONSUMER <key> <group> <consumer>
    Makes a consumer.
DELCONSUMER <key> <group> <consumer>
    Deletes a consumer and forgets what it has not acknowledged.
DESTROY <key> <group>
    Deletes a group.
SETID <key> <group> <id|$> [ENTRIESREAD <n>]
    Sets the last id that the group has delivered.
HELP
    Print this help.
"""

container("XGROUP", since="5.0.0", summary="Makes and changes the consumer groups of a stream.", group="stream")


class Named:
    """Options, stream and group of an XGROUP call."""

    def __init__(self, client: Client, argv: list[bytes], needs_group: bool = True) -> None:
        what = argv[1].upper()
        self.make = False
        self.read = UNKNOWN
        at = 5
        if what not in (b"CREATE", b"SETID"):
            at = len(argv)
        while at < len(argv):
            word = argv[at].upper()
            if what == b"CREATE" and word == b"MKSTREAM":
                self.make = True
            elif word == b"ENTRIESREAD" and at + 1 < len(argv):
                at += 1
                self.read = parse_int(argv[at])
                if self.read < UNKNOWN:
                    raise ReplyError("ERR value for ENTRIESREAD must be positive or -1")
            else:
                raise wrong_subcommand(argv)
            at += 1
        self.value = stream_to_write(client, argv[2])
        self.group: Group | None = None
        if self.value is not None:
            self.group = self.value.groups.get(argv[3])
        elif not self.make:
            raise ReplyError(NO_KEY)
        if needs_group and self.group is None:
            raise no_group_for_key(argv[2], argv[3])

    def last_id(self, text: bytes, ends: bool) -> int:
        if text == b"$":
            return 0 if self.value is None else self.value.last_id
        return parse_id(text, 0, ends)


@command(
    "XGROUP CREATE", arity=-5, flags="write denyoom", keys=(2, 2, 1), acl="stream", group="stream", since="5.0.0",
    summary="Makes a consumer group.",
)  # fmt: skip
def xgroup_create(client: Client, argv: list[bytes]) -> bytes:
    named = Named(client, argv, False)
    if len(argv) > 8:
        raise wrong_subcommand(argv)
    eid = named.last_id(argv[4], False)
    if named.group is not None:
        raise ReplyError("BUSYGROUP Consumer Group name already exists")
    client.emit([b"XGROUP", b"CREATE", argv[2], argv[3], id_text(eid), b"ENTRIESREAD", b"%d" % named.read])
    return OK


@command(
    "XGROUP SETID", arity=-5, flags="write", keys=(2, 2, 1), acl="stream", group="stream", since="5.0.0",
    summary="Sets the last id that a group has delivered.",
)  # fmt: skip
def xgroup_setid(client: Client, argv: list[bytes]) -> bytes:
    named = Named(client, argv)
    if len(argv) not in (5, 7):
        raise wrong_subcommand(argv)
    eid = named.last_id(argv[4], True)
    client.emit([b"XGROUP", b"SETID", argv[2], argv[3], id_text(eid), b"ENTRIESREAD", b"%d" % named.read])
    return OK


@command(
    "XGROUP DESTROY", arity=4, flags="write", keys=(2, 2, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(N) for N entries that wait for an XACK", summary="Deletes a consumer group.",
)  # fmt: skip
def xgroup_destroy(client: Client, argv: list[bytes]) -> bytes:
    if Named(client, argv, False).group is None:
        return ZERO
    client.emit([b"XGROUP", b"DESTROY", argv[2], argv[3]])
    return ONE


@command(
    "XGROUP CREATECONSUMER", arity=5, flags="write denyoom", keys=(2, 2, 1), acl="stream", group="stream",
    since="6.2.0", summary="Makes a consumer in a group.",
)  # fmt: skip
def xgroup_createconsumer(client: Client, argv: list[bytes]) -> bytes:
    group = Named(client, argv).group
    assert group is not None
    if argv[4] in group.consumers:
        return ZERO
    note_seen(client, argv[2], argv[3], group, argv[4])
    return ONE


@command(
    "XGROUP DELCONSUMER", arity=5, flags="write", keys=(2, 2, 1), acl="stream", group="stream", since="5.0.0",
    summary="Deletes a consumer and forgets what it has not acknowledged.",
)  # fmt: skip
def xgroup_delconsumer(client: Client, argv: list[bytes]) -> bytes:
    group = Named(client, argv).group
    assert group is not None
    consumer = group.consumers.get(argv[4])
    if consumer is None:
        return ZERO
    waiting = len(consumer.pending.nacks)
    client.emit([b"XGROUP", b"DELCONSUMER", argv[2], argv[3], argv[4]])
    return integer(waiting)


@command(
    "XGROUP HELP", arity=2, flags="loading stale", acl="stream", group="stream", since="5.0.0",
    summary="Lists the subcommands.",
)  # fmt: skip
def xgroup_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)


@command(
    "XACK", arity=-4, flags="write fast", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(N) for N ids", summary="Acknowledges entries: the group no longer waits for them.",
)  # fmt: skip
def xack(client: Client, argv: list[bytes]) -> bytes:
    value = stream_to_read(client, argv[1])
    group = None if value is None else value.groups.get(argv[2])
    if group is None:
        return ZERO
    if len(argv) == 4:
        eid = parse_id(argv[3])
        if eid not in group.pending.nacks:
            return ZERO
        client.emit([b"XACK", argv[1], argv[2], id_text(eid)])
        return ONE
    ids = dict.fromkeys([parse_id(argv[i]) for i in range(3, len(argv))])
    found = [id_text(eid) for eid in ids if eid in group.pending.nacks]
    if found:
        client.emit([b"XACK", argv[1], argv[2], *found])
    return integer(len(found))


def summary(group: Group, resp3: bool) -> bytes:
    """XPENDING without a range."""
    pending = group.pending
    if not pending.nacks:
        return array([ZERO, null(resp3), null(resp3), null_array(resp3)])
    owners: list[bytes] = []
    for name in sorted(group.consumers):
        waiting = len(group.consumers[name].pending.nacks)
        if waiting:
            owners.append(array([bulk(name), bulk(b"%d" % waiting)]))
    first, last = pending.first(), pending.last()
    return array([integer(len(pending.nacks)), bulk(id_text(first)), bulk(id_text(last)), array(owners)])


@command(
    "XPENDING", arity=-3, flags="readonly", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(N) for N entries looked at", tips="nondeterministic_output",
    summary="Returns what a group has delivered and not seen acknowledged: in sum, or entry by entry.",
)  # fmt: skip
def xpending(client: Client, argv: list[bytes]) -> bytes:
    n = len(argv)
    start = end = count = idle_ms = 0
    name: bytes | None = None
    if n != 3:
        if n < 6 or n > 9:
            raise syntax_error()
        at = 3
        if argv[3].upper() == b"IDLE":
            idle_ms = parse_int(argv[4])
            if n < 8:
                raise syntax_error()
            at = 5
        count = max(0, parse_int(argv[at + 2]))
        start, end = parse_start(argv[at]), parse_end(argv[at + 1])
        name = argv[at + 3] if at + 3 < n else None
    _, group = group_at(client, argv[1], argv[2])
    if n == 3:
        return summary(group, client.resp3)
    pending = group.pending
    if name is not None:
        consumer = group.consumers.get(name)
        if consumer is None:
            return EMPTY_ARRAY
        pending = consumer.pending
    now_ms = client.store.now_ms
    found: list[bytes] = []
    for eid in pending.ids(start, end, count if idle_ms == 0 else -1):
        nack = pending.nacks[eid]
        waited = now_ms - nack.at_ms
        if len(found) == count:
            break
        if idle_ms == 0 or waited >= idle_ms:
            parts = [bulk(id_text(eid)), bulk(nack.owner.name), integer(max(0, waited)), integer(nack.count)]
            found.append(array(parts))
    return array(found)


class Claims:
    """What one XCLAIM or XAUTOCLAIM takes: ids that get the same time and count make one event."""

    def __init__(self, client: Client, argv: list[bytes], value: StreamValue, group: Group) -> None:
        self.client = client
        self.key, self.group_name, self.name = argv[1], argv[2], argv[3]
        self.value = value
        self.group = group
        self.at_ms = client.store.now_ms
        self.count = 0
        self.ids: dict[int, None] = {}
        self.gone: dict[int, None] = {}
        self.replies: list[bytes] = []

    def take(self, eid: int, count: int, only_id: bool) -> None:
        if count != self.count or eid in self.ids:
            self.flush()
            self.count = count
        self.ids[eid] = None
        entry = bulk(id_text(eid)) if only_id else self.value.entry(eid)
        assert entry is not None
        self.replies.append(entry)

    def counted(self, eid: int) -> int:
        """How often the entry was delivered until now, what this call has taken included."""
        if eid in self.ids:
            return self.count
        nack = self.group.pending.nacks.get(eid)
        return 0 if nack is None else nack.count

    def flush(self) -> None:
        """Log what was collected."""
        client = self.client
        if self.ids:
            client.emit(
                [b"XCLAIM", self.key, self.group_name, self.name, b"%d" % client.store.now_ms, b"%d" % self.at_ms,
                 b"%d" % self.count, *[id_text(eid) for eid in self.ids]]
            )  # fmt: skip
            self.ids = {}

    def finish(self) -> None:
        self.flush()
        if self.gone:
            self.client.emit([b"XACK", self.key, self.group_name, *[id_text(eid) for eid in self.gone]])


class ClaimOptions:
    """What stands behind the ids of an XCLAIM."""

    def __init__(self, client: Client, argv: list[bytes], at: int) -> None:
        now_ms = client.store.now_ms
        self.force = self.only_id = False
        self.at_ms = -1
        self.count = -1
        self.last_id = 0
        while at < len(argv):
            word, more = argv[at].upper(), at + 1 < len(argv)
            if word == b"FORCE":
                self.force = True
            elif word == b"JUSTID":
                self.only_id = True
            elif word == b"IDLE" and more:
                at += 1
                self.at_ms = now_ms - parse_int(argv[at], "ERR Invalid IDLE option argument for XCLAIM")
            elif word == b"TIME" and more:
                at += 1
                self.at_ms = parse_int(argv[at], "ERR Invalid TIME option argument for XCLAIM")
            elif word == b"RETRYCOUNT" and more:
                at += 1
                self.count = parse_int(argv[at], "ERR Invalid RETRYCOUNT option argument for XCLAIM")
            elif word == b"LASTID" and more:
                at += 1
                self.last_id = parse_id(argv[at])
            else:
                raise ReplyError(f"ERR Unrecognized XCLAIM option '{shown(argv[at])}'")
            at += 1
        if self.at_ms < 0 or self.at_ms > now_ms:  # a clock that is ahead is no reason to fail
            self.at_ms = now_ms


@command(
    "XCLAIM", arity=-6, flags="write fast", keys=(1, 1, 1), acl="stream", group="stream", since="5.0.0",
    complexity="O(log N) for each id, N entries waiting for an XACK", tips="nondeterministic_output",
    summary="Makes entries that another consumer was given, and has kept too long, those of this one.",
)  # fmt: skip
def xclaim(client: Client, argv: list[bytes]) -> bytes:
    value, group = group_at(client, argv[1], argv[2])
    idle_ms = max(0, parse_int(argv[4], "ERR Invalid min-idle-time argument for XCLAIM"))
    ids: list[int] = []
    at = 5
    while at < len(argv):
        try:
            ids.append(parse_id(argv[at]))
        except ReplyError:
            break
        at += 1
    options = ClaimOptions(client, argv, at)
    if options.last_id > group.last_id:
        client.emit(
            [b"XGROUP", b"SETID", argv[1], argv[2], id_text(options.last_id), b"ENTRIESREAD",
             b"%d" % group.entries_read]
        )  # fmt: skip
    claims = Claims(client, argv, value, group)
    claims.at_ms = options.at_ms
    now_ms = client.store.now_ms
    for eid in ids:
        nack = group.pending.nacks.get(eid)
        taken = eid in claims.ids
        if not value.has(eid):
            if nack is not None:
                claims.gone[eid] = None
            continue
        if nack is None and not taken and not options.force:
            continue
        if idle_ms and (nack is not None or taken):
            since = claims.at_ms if taken or nack is None else nack.at_ms
            if now_ms - since < idle_ms:
                continue
        count = claims.counted(eid) if nack is not None or taken else 1
        if options.count >= 0:
            count = options.count
        elif not options.only_id:
            count += 1
        claims.take(eid, count, options.only_id)
    claims.finish()
    return array(claims.replies)


@command(
    "XAUTOCLAIM", arity=-6, flags="write fast", keys=(1, 1, 1), acl="stream", group="stream", since="6.2.0",
    complexity="O(1) if COUNT is small", tips="nondeterministic_output",
    summary="Looks for entries that were kept too long and makes them those of this consumer.",
)  # fmt: skip
def xautoclaim(client: Client, argv: list[bytes]) -> bytes:
    idle_ms = max(0, parse_int(argv[4], "ERR Invalid min-idle-time argument for XAUTOCLAIM"))
    start = parse_start(argv[5])
    count, only_id, at = 100, False, 6
    while at < len(argv):
        word = argv[at].upper()
        if word == b"COUNT" and at + 1 < len(argv):
            at += 1
            count = parse_int(argv[at], COUNT_TOO_SMALL)
            if count < 1 or count > CLAIMS_MAX:
                raise ReplyError(COUNT_TOO_SMALL)
        elif word == b"JUSTID":
            only_id = True
        else:
            raise syntax_error()
        at += 1
    value, group = group_at(client, argv[1], argv[2])
    claims = Claims(client, argv, value, group)
    now_ms = client.store.now_ms
    ids = group.pending.ids(start, ID_MAX, count * LOOKS_PER_CLAIM + 1)
    looked = 0
    for eid in ids:
        if looked == count * LOOKS_PER_CLAIM or len(claims.replies) + len(claims.gone) == count:
            break
        looked += 1
        nack = group.pending.nacks[eid]
        if not value.has(eid):
            claims.gone[eid] = None
        elif idle_ms == 0 or now_ms - nack.at_ms >= idle_ms:
            claims.take(eid, nack.count if only_id else nack.count + 1, only_id)
    claims.finish()
    cursor = id_text(ids[looked]) if looked < len(ids) else b"0-0"
    gone = [bulk(id_text(eid)) for eid in claims.gone]
    return array([bulk(cursor), array(claims.replies), array(gone)])
