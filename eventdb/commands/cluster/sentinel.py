"""SENTINEL: every node answers as a Redis Sentinel would, on its own port, for clients that find the primary that way.

Source: redis src/sentinel.c, src/commands/sentinel*.json (7.0). The service has the names in sentinel-service-name, all
of them for the one shard; others are unknown. Every node counts as a Sentinel. They do not ping each other: what they
know is what the log says, so the times of pings are 0; down-after-milliseconds is the lease.
"""

from __future__ import annotations

from typing import Final

from eventdb.cluster.topology import Member
from eventdb.commands.shared.sentinels import FLAGS, is_down, is_known, named_primary, own_shard, service_names
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, container, server_command
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import array, bulk, bulks, integer, lines, mapping, null_array, simple

HELP: Final = """
SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CKQUORUM <master-name>
    Whether a live node may take over from the primary.
CONFIG SET <param> <value>
    Nothing is set here; the value that a parameter has is accepted.
CONFIG GET <param>
    What a Sentinel would have set.
FAILOVER <master-name>
    Hand over to the best replica, when sent to the primary.
GET-MASTER-ADDR-BY-NAME <master-name>
    Host and port of the primary.
INFO-CACHE <master-name>
    INFO of this node; nodes do not ask each other for it.
IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>
    Whether the primary at that address has lost its lease.
MASTER <master-name>
    What is known of the primary.
MASTERS
    The same for every name of the service.
MYID
    The id of this node.
PENDING-SCRIPTS
    None: nothing runs scripts.
REPLICAS <master-name>
    The live replicas.
RESET <pattern>
    How many names match. Nothing is kept that could be forgotten: what is known is what the log says now.
SENTINELS <master-name>
    The other live nodes.
HELP
    Print this help.
"""

container("SENTINEL", flags="admin", since="2.8.4", group="sentinel", summary="Tells who the primary is.")

Fields = list[tuple[str, object]]


def _pairs(client: Client, fields: Fields) -> bytes:
    items: list[bytes] = []
    for name, value in fields:
        items += [bulk(name.encode()), bulk(str(value).encode())]
    return mapping(items, client.resp3)


def _instance(engine: Engine, client: Client, name: str, member: Member, flags: str) -> Fields:
    facts = engine.host.facts()
    return [
        ("name", name),
        ("ip", member.host),
        ("port", member.port),
        ("runid", member.id),
        ("flags", flags),
        ("link-pending-commands", 0),
        ("link-refcount", 1),
        ("last-ping-sent", 0),
        ("last-ok-ping-reply", 0),
        ("last-ping-reply", 0),
        ("down-after-milliseconds", facts.get("lease_ms", "0")),
    ]


def _reported(role: str) -> Fields:
    return [("info-refresh", 0), ("role-reported", role), ("role-reported-time", 0)]


def _master(engine: Engine, client: Client, name: str) -> bytes:
    shard, member = own_shard(engine, client), named_primary(engine, client, name.encode("utf-8", "surrogateescape"))
    flags = "master,s_down,o_down,disconnected" if is_down(engine, shard) else "master"
    config = engine.config
    fields = [
        *_instance(engine, client, name, member, flags),
        *_reported("master"),
        ("config-epoch", shard.topology.epoch),
        ("num-slaves", len(shard.replicas)),
        ("num-other-sentinels", len(shard.topology.members) - 1),
        ("quorum", 1),  # one candidate is enough: the log decides which
        ("failover-timeout", config.commit_timeout_ms),  # how long commands wait for a new primary
        ("parallel-syncs", len(shard.replicas)),
    ]
    return _pairs(client, fields)


@server_command(
    "SENTINEL MASTERS", arity=2, flags=FLAGS, since="2.8.4", group="sentinel",
    summary="Tells of the primary, in a list.",
)  # fmt: skip
def sentinel_masters(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if own_shard(engine, client).primary is None:
        return array([])
    return array([_master(engine, client, name) for name in service_names(engine)])


@server_command(
    "SENTINEL MASTER", arity=3, flags=FLAGS, since="2.8.4", group="sentinel", summary="Tells of the primary.",
)  # fmt: skip
def sentinel_master(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _master(engine, client, argv[2].decode("utf-8", "surrogateescape"))


@server_command(
    "SENTINEL GET-MASTER-ADDR-BY-NAME", arity=3, flags=FLAGS, since="2.8.4", group="sentinel",
    summary="Tells host and port of the primary.",
)  # fmt: skip
def sentinel_get_master_addr_by_name(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    member = own_shard(engine, client).primary
    if member is None or not is_known(engine, argv[2]):
        return null_array(client.resp3)
    return bulks([member.host.encode(), b"%d" % member.port])


def sentinel_replicas(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    shard, primary = own_shard(engine, client), named_primary(engine, client, argv[2])
    there = not is_down(engine, shard)
    found: list[bytes] = []
    for member in shard.replicas:
        fields = [
            *_instance(engine, client, f"{member.host}:{member.port}", member, "slave"),
            *_reported("slave"),
            ("master-link-down-time", 0),
            ("master-link-status", "ok" if there else "err"),
            ("master-host", primary.host),
            ("master-port", primary.port),
            ("slave-priority", 100 if member.candidate else 0),  # 0: never becomes the primary
            ("slave-repl-offset", member.offset),
            ("replica-announced", 1),
        ]
        found.append(_pairs(client, fields))
    return array(found)


for _name, _since in (("REPLICAS", "5.0.0"), ("SLAVES", "2.8.0")):
    server_command(
        f"SENTINEL {_name}", arity=3, flags=FLAGS, since=_since, group="sentinel",
        complexity="O(N) where N is the number of replicas", summary="Tells of the live replicas.",
    )(sentinel_replicas)  # fmt: skip


@server_command(
    "SENTINEL SENTINELS", arity=3, flags=FLAGS, since="2.8.4", group="sentinel",
    complexity="O(N) where N is the number of nodes", summary="Tells of the other live nodes.",
)  # fmt: skip
def sentinel_sentinels(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    named_primary(engine, client, argv[2])
    topology = own_shard(engine, client).topology
    found: list[bytes] = []
    for name in sorted(topology.members):
        member = topology.members[name]
        if member is not topology.me:
            fields = [
                *_instance(engine, client, member.id, member, "sentinel"),
                ("last-hello-message", 0),
                ("voted-leader", "?"),
                ("voted-leader-epoch", 0),
            ]
            found.append(_pairs(client, fields))
    return array(found)


@server_command(
    "SENTINEL CKQUORUM", arity=3, flags=FLAGS, since="2.8.4", group="sentinel",
    summary="Tells whether a live node may take over from the primary.",
)  # fmt: skip
def sentinel_ckquorum(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    named_primary(engine, client, argv[2])
    topology = own_shard(engine, client).topology
    usable = len(topology.members)
    if not [member for member in topology.replicas if member.candidate]:
        raise ReplyError(f"NOQUORUM {usable} usable Sentinels. No live node may take over from the primary")
    return simple(b"OK %d usable Sentinels. Quorum and failover authorization can be reached" % usable)


@server_command(
    "SENTINEL IS-MASTER-DOWN-BY-ADDR", arity=6, flags=FLAGS, since="2.8.4", group="sentinel",
    summary="Tells whether the primary at an address has lost its lease; votes for nobody.",
)  # fmt: skip
def sentinel_is_master_down_by_addr(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    port = parse_int(argv[3])
    parse_int(argv[4])
    shard = own_shard(engine, client)
    last = shard.primary
    down = is_down(engine, shard) and last is not None
    named = last is not None and last.port == port and last.host.encode() == argv[2]
    return array([integer(1 if down and named else 0), bulk(b"*"), integer(0)])


@server_command(
    "SENTINEL MYID", arity=2, flags=FLAGS, since="6.2.0", group="sentinel", summary="Tells the id of this node.",
)  # fmt: skip
def sentinel_myid(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return bulk(own_shard(engine, client).topology.me.id.encode())


@command(
    "SENTINEL HELP", arity=2, flags="loading stale", since="6.2.0", group="sentinel", summary="Explains SENTINEL.",
)  # fmt: skip
def sentinel_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
