"""CLUSTER, READONLY, READWRITE, ASKING: where the keys are, for clients that know Redis Cluster.

Source: redis src/cluster.c, src/commands/cluster*.json. There is no cluster bus: which nodes there are and which is
the primary follows from the log, so the commands that would change it are refused, no links are shown, and the bus
port is 0.
"""

from __future__ import annotations

from typing import Final

from eventdb.cluster.slots import SLOTS, Shard, SlotMap, key_slot
from eventdb.cluster.topology import Member
from eventdb.commands.shared.roles import durable_offset, log_id
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import container, server_command
from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import EMPTY_ARRAY, OK, array, bulk, bulks, integer, lines, mapping, verbatim

DISABLED: Final = "ERR This instance has cluster support disabled"
FROM_THE_LOG: Final = (
    "ERR eventdb's slots and roles follow from its log and cannot be set; FAILOVER on the primary hands it over"
)
UNSTABLE: Final = "nondeterministic_output"
HELP: Final = """
CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
COUNTKEYSINSLOT <slot>
    Return the number of keys in <slot>.
GETKEYSINSLOT <slot> <count>
    Return key names stored by current node in a slot.
INFO
    Return information about the cluster.
KEYSLOT <key>
    Return the hash slot for <key>.
LINKS
    There is no cluster bus, so there are none.
MYID
    Return the node id.
MYSHARDID
    Return the id of the node's shard.
NODES
    Return cluster configuration seen by node. Output format:
    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...
REPLICAS <node-id>
    Return <node-id> replicas.
SLOT-STATS (SLOTSRANGE <first> <last> | ORDERBY <metric> [LIMIT <limit>] [ASC|DESC])
    Return how many keys slots hold (key-count, the one metric there is).
SHARDS
    Return information about slot range mappings and the nodes associated with them.
SLOTS
    Return information about slots range mappings. Each range is made of:
    start, end, master and replicas IP addresses, ports and ids
HELP
    Print this help.
"""

container("CLUSTER", since="3.0.0", group="cluster", summary="Reports where the keys are.")


def _slots(engine: Engine, client: Client) -> SlotMap:
    """The slot map. Raises ReplyError when cluster-enabled is off."""
    if engine.config.cluster_enabled != "yes":
        raise ReplyError(DISABLED)
    return engine.slots


@server_command(
    "CLUSTER SLOTS", arity=2, flags="stale", since="3.0.0", group="cluster", tips=UNSTABLE,
    complexity="O(N) where N is the number of nodes", summary="Reports the nodes that serve each range of slots.",
)  # fmt: skip
def cluster_slots(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    found: list[bytes] = []
    for shard in _slots(engine, client).shards:
        if shard.primary is None:
            continue
        nodes = [_endpoint(member, client.resp3) for member in [shard.primary, *shard.replicas]]
        for first, last in shard.ranges:
            found.append(array([integer(first), integer(last), *nodes]))
    return array(found)


def _endpoint(member: Member, resp3: bool) -> bytes:
    more = mapping([], resp3)  # the same node under other names
    return array([bulk(member.host.encode()), integer(member.port), bulk(member.id.encode()), more])


@server_command(
    "CLUSTER SHARDS", arity=2, flags="stale", since="7.0.0", group="cluster", tips=UNSTABLE,
    complexity="O(N) where N is the number of nodes", summary="Reports the slots and the nodes of each shard.",
)  # fmt: skip
def cluster_shards(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    found: list[bytes] = []
    for shard in _slots(engine, client).shards:
        ranges: list[bytes] = []
        for first, last in shard.ranges:
            ranges += [integer(first), integer(last)]
        members = shard.replicas if shard.primary is None else [shard.primary, *shard.replicas]
        nodes = array([_node(engine, client, shard, member) for member in members])
        found.append(mapping([bulk(b"slots"), array(ranges), bulk(b"nodes"), nodes], client.resp3))
    return array(found)


def _node(engine: Engine, client: Client, shard: Shard, member: Member) -> bytes:
    host = member.host.encode()
    first = member is shard.primary
    gone = first and shard.topology.is_down
    items = [
        bulk(b"id"), bulk(member.id.encode()),
        bulk(b"port"), integer(member.port),
        bulk(b"ip"), bulk(host),
        bulk(b"endpoint"), bulk(host),
        bulk(b"role"), bulk(b"master" if first else b"replica"),
        bulk(b"replication-offset"), integer(durable_offset(engine, member)),
        bulk(b"health"), bulk(b"failed" if gone else b"online"),
    ]  # fmt: skip
    return mapping(items, client.resp3)


@server_command(
    "CLUSTER NODES", arity=2, flags="stale", since="3.0.0", group="cluster", tips=UNSTABLE,
    complexity="O(N) for N nodes", summary="Reports every node with its role and slots, a line each.",
)  # fmt: skip
def cluster_nodes(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    text: list[str] = []
    for shard in _slots(engine, client).shards:
        if shard.primary is not None:
            text.append(_line(engine, client, shard, shard.primary))
        text += [_line(engine, client, shard, member) for member in shard.replicas]
    return verbatim("".join([line + "\n" for line in text]).encode(), client.resp3)


def _line(engine: Engine, client: Client, shard: Shard, member: Member) -> str:
    """One node as redis clusterGenNodeDescription prints it; nobody is pinged, so those times are 0."""
    primary, topology = shard.primary, shard.topology
    flags = ["myself"] if member is engine.topology.me else []
    link, master, owned = "connected", "-", ""
    if member is primary:
        flags.append("master")
        if topology.is_down:
            flags.append("fail?")
            link = "disconnected"
        for first, last in shard.ranges:
            owned += f" {first}" if first == last else f" {first}-{last}"
    else:
        flags.append("slave")
        master = primary.id if primary is not None else "-"
    address = f"{member.host}:{member.port}@0"
    return f"{member.id} {address} {','.join(flags)} {master} 0 0 {topology.epoch} {link}{owned}"


@server_command(
    "CLUSTER INFO", arity=2, flags="stale", since="3.0.0", group="cluster", tips=UNSTABLE,
    summary="Reports whether every slot is served, and counts nodes and shards.",
)  # fmt: skip
def cluster_info(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    slots = _slots(engine, client)
    assigned = slots.assigned()
    failed = nodes = epoch = 0
    for shard in slots.shards:
        epoch = max(epoch, shard.topology.epoch)
        nodes += len(shard.replicas) + (shard.primary is not None)
        if shard.topology.is_down:
            failed += sum([last - first + 1 for first, last in shard.ranges])
    numbers: list[tuple[str, object]] = [
        ("state", "ok" if assigned - failed == SLOTS else "fail"),
        ("slots_assigned", assigned),
        ("slots_ok", assigned - failed),
        ("slots_pfail", failed),
        ("slots_fail", 0),
        ("known_nodes", nodes),
        ("size", len([shard for shard in slots.shards if shard.ranges])),
        ("current_epoch", epoch),
        ("my_epoch", slots.mine.topology.epoch),
        ("stats_messages_sent", 0),
        ("stats_messages_received", 0),
    ]
    text = "".join([f"cluster_{name}:{value}\r\n" for name, value in numbers])
    return verbatim(f"{text}total_cluster_links_buffer_limit_exceeded:0\r\n".encode(), client.resp3)


@server_command(
    "CLUSTER MYID", arity=2, flags="stale", since="3.0.0", group="cluster", summary="Reports the id of this node.",
)  # fmt: skip
def cluster_myid(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return bulk(_slots(engine, client).mine.topology.me.id.encode())


@server_command(
    "CLUSTER MYSHARDID", arity=2, flags="stale", since="7.2.0", group="cluster", tips=UNSTABLE,
    summary="Reports the id of this node's shard.",
)  # fmt: skip
def cluster_myshardid(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    return bulk(log_id(engine).encode())


@server_command(
    "CLUSTER KEYSLOT", arity=3, flags="stale", since="3.0.0", group="cluster",
    complexity="O(N), N bytes of key", summary="Reports the slot of a key.",
)  # fmt: skip
def cluster_keyslot(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    return integer(key_slot(argv[2]))


@server_command(
    "CLUSTER COUNTKEYSINSLOT", arity=3, flags="stale", whole=True, since="3.0.0", group="cluster",
    complexity="O(N) where N is the number of all keys", summary="Counts the keys in a slot.",
)  # fmt: skip
def cluster_countkeysinslot(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    slot = parse_int(argv[2])
    if not 0 <= slot < SLOTS:
        raise ReplyError("ERR Invalid slot")
    return integer(len([key for key in client.db.values if key_slot(key) == slot]))


@server_command(
    "CLUSTER SLOT-STATS", arity=-4, flags="stale loading", whole=True, since="8.0.0", group="cluster", tips=UNSTABLE,
    complexity="O(N) where N is the number of all keys", summary="Counts the keys of slots (Valkey 8).",
)  # fmt: skip
def cluster_slot_stats(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    counts = [0] * SLOTS
    for key in client.db.values:
        counts[key_slot(key)] += 1
    found = [(slot, [bulk(b"key-count"), integer(counts[slot])]) for slot in _wanted_slots(argv, counts)]
    return array([array([integer(slot), mapping(stats, client.resp3)]) for slot, stats in found])


def _wanted_slots(argv: list[bytes], counts: list[int]) -> list[int]:
    kind = argv[2].upper()
    if kind == b"SLOTSRANGE" and len(argv) == 5:
        first, last = (_slot(text) for text in argv[3:5])
        if first > last:
            raise ReplyError(f"ERR Start slot number {first} is greater than end slot number {last}")
        return list(range(first, last + 1))
    if kind != b"ORDERBY":
        raise syntax_error()
    if argv[3].lower() != b"key-count":
        raise ReplyError("ERR Unrecognized sort metric for ORDERBY.")
    limit, falling, at = SLOTS, True, 4
    while at < len(argv):
        word = argv[at].upper()
        if word == b"LIMIT" and at + 1 < len(argv):
            at += 1
            message = f"ERR Limit has to lie in between 1 and {SLOTS} (maximum number of slots)."
            limit = parse_int(argv[at], message)
            if not 1 <= limit <= SLOTS:
                raise ReplyError(message)
        elif word in (b"ASC", b"DESC"):
            falling = word == b"DESC"
        else:
            raise syntax_error()
        at += 1
    return sorted(range(SLOTS), key=lambda slot: -counts[slot] if falling else counts[slot])[:limit]


def _slot(text: bytes) -> int:
    message = "ERR Invalid or out of range slot"
    slot = parse_int(text, message)
    if not 0 <= slot < SLOTS:
        raise ReplyError(message)
    return slot


@server_command(
    "CLUSTER GETKEYSINSLOT", arity=4, flags="stale", whole=True, since="3.0.0", group="cluster", tips=UNSTABLE,
    complexity="O(N) where N is the number of all keys", summary="Returns keys in a slot, at most N.",
)  # fmt: skip
def cluster_getkeysinslot(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    slot, count = parse_int(argv[2]), parse_int(argv[3])
    if not 0 <= slot < SLOTS or count < 0:
        raise ReplyError("ERR Invalid slot or number of keys")
    found: list[bytes] = []
    for key in client.db.values:
        if len(found) == count:
            break
        if key_slot(key) == slot:
            found.append(key)
    return bulks(found)


def cluster_replicas(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    wanted = argv[2].decode("utf-8", "surrogateescape")
    for shard in _slots(engine, client).shards:
        if shard.primary is not None and shard.primary.id == wanted:
            return bulks([_line(engine, client, shard, member).encode() for member in shard.replicas])
        if wanted in [member.id for member in shard.replicas]:
            raise ReplyError("ERR The specified node is not a master")
    raise ReplyError(f"ERR Unknown node {wanted}")


for _name, _since in (("REPLICAS", "5.0.0"), ("SLAVES", "3.0.0")):
    server_command(
        f"CLUSTER {_name}", arity=3, flags="admin stale", since=_since, group="cluster", tips=UNSTABLE,
        summary="Reports the replicas of a primary, a line each.",
    )(cluster_replicas)  # fmt: skip


@server_command(
    "CLUSTER LINKS", arity=2, flags="stale", since="7.0.0", group="cluster", tips=UNSTABLE,
    complexity="O(1)", summary="Answers with an empty list: there is no cluster bus.",
)  # fmt: skip
def cluster_links(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    return EMPTY_ARRAY


@server_command(
    "CLUSTER HELP", arity=2, flags="loading stale", since="5.0.0", group="cluster", summary="Explains CLUSTER.",
)  # fmt: skip
def cluster_help(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    return lines(HELP)


def refused(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    raise ReplyError(FROM_THE_LOG)


_CHANGES: Final = "admin stale no_async_loading"
for _name, _arity, _flags, _tips in (
    ("ADDSLOTS", -3, _CHANGES, ""),
    ("ADDSLOTSRANGE", -4, _CHANGES, ""),
    ("BUMPEPOCH", 2, _CHANGES, UNSTABLE),
    ("COUNT-FAILURE-REPORTS", 3, "admin stale", UNSTABLE),
    ("DELSLOTS", -3, _CHANGES, ""),
    ("DELSLOTSRANGE", -4, _CHANGES, ""),
    ("FAILOVER", -2, _CHANGES, ""),
    ("FLUSHSLOTS", 2, _CHANGES, ""),
    ("FORGET", 3, _CHANGES, ""),
    ("MEET", -4, _CHANGES, ""),
    ("REPLICATE", 3, _CHANGES, ""),
    ("RESET", -2, "admin noscript stale", ""),
    ("SAVECONFIG", 2, _CHANGES, ""),
    ("SET-CONFIG-EPOCH", 3, _CHANGES, ""),
    ("SETSLOT", -4, _CHANGES, ""),
):
    server_command(
        f"CLUSTER {_name}", arity=_arity, flags=_flags, since="7.0.0" if _name.endswith("RANGE") else "3.0.0",
        group="cluster", tips=_tips,
        summary="Refused: slots and roles follow from the log.",
    )(refused)  # fmt: skip


def _reads_at_replicas(engine: Engine, client: Client) -> None:
    """READONLY means something in cluster mode, and to a client that replicas redirect."""
    if not client.redirects:
        _slots(engine, client)


@server_command(
    "READONLY", arity=1, flags="loading stale fast", acl="connection", since="3.0.0", group="cluster",
    summary="Lets this connection read from a replica.",
)  # fmt: skip
def readonly(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _reads_at_replicas(engine, client)
    client.readonly_mode = True
    return OK


@server_command(
    "READWRITE", arity=1, flags="loading stale fast", acl="connection", since="3.0.0", group="cluster",
    summary="Takes back READONLY.",
)  # fmt: skip
def readwrite(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _reads_at_replicas(engine, client)
    client.readonly_mode = False
    return OK


@server_command(
    "ASKING", arity=1, flags="fast", acl="connection", since="3.0.0", group="cluster",
    summary="Does nothing: no slot is ever on its way between two shards.",
)  # fmt: skip
def asking(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _slots(engine, client)
    return OK
