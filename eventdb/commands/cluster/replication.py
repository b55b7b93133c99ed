"""Roles: which node is the primary, how far the replicas are, and the hand-over from one node to another.

Source: redis src/replication.c (roleCommand, failoverCommand, replicaofCommand, genRedisInfoString's replication part).
A replica follows the log and not a primary, so REPLICAOF has nothing to set. Offsets count transactions, not bytes.
"""

from __future__ import annotations

import json
from typing import Final

from eventdb.cluster.topology import member_of
from eventdb.commands.shared.roles import follows, loads_alone
from eventdb.engine.client import LEASELESS, LOADING, Client
from eventdb.engine.engine import Engine
from eventdb.engine.host import NO_FAILOVER, WAITING_FOR_SYNC
from eventdb.engine.registry import server_command
from eventdb.protocol.errors import (
    FAILOVER_ALONE,
    FAILOVER_NO_SUCH_REPLICA,
    FAILOVER_ON_REPLICA,
    FAILOVER_UNDER_WAY,
    ReplyError,
    syntax_error,
)
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import EMPTY_ARRAY, NO_REPLY, OK, array, bulk, bulks, integer

ANNOUNCEMENT_BYTES_MAX: Final = 4096
NO_ROLES: Final = (
    "ERR eventdb's roles follow from its log: the node that holds the lease is the primary, all others follow the log."
    " FAILOVER on the primary hands it over"
)


@server_command(
    "ROLE", arity=1, flags="noscript loading stale fast", acl="admin dangerous", since="2.8.12", group="server",
    summary="Reports whether the node is the primary or a replica, of whom, and the offset it has.",
)  # fmt: skip
def role(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    topology = engine.topology
    if topology.is_primary:
        replicas = [
            bulks([member.host.encode(), b"%d" % member.port, b"%d" % member.offset]) for member in topology.replicas
        ]
        return array([bulk(b"master"), integer(engine.commit.durable_offset), array(replicas)])
    if loads_alone(engine):
        return array([bulk(b"master"), integer(engine.commit.durable_offset), EMPTY_ARRAY])
    primary = topology.last_primary
    host, port = (primary.host, primary.port) if primary is not None else ("", 0)
    state = b"connected" if follows(engine) else b"sync" if engine.gate & LOADING else b"connect"
    return array(
        [bulk(b"slave"), bulk(host.encode()), integer(port), bulk(state), integer(engine.commit.durable_offset)]
    )


@server_command(
    "FAILOVER", arity=-1, flags="admin noscript stale", since="6.2.0", group="server",
    summary="Hands the role of the primary over to another node.",
)  # fmt: skip
def failover(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT ms] -> OK once it has begun, or is called off.

    Also in cluster mode, where Redis has CLUSTER FAILOVER for it. FORCE is for replicas that have not got everything;
    here the log has, and it changes nothing.
    """
    if len(argv) == 2 and argv[1].upper() == b"ABORT":
        if engine.failover_state == NO_FAILOVER:
            raise ReplyError("ERR No failover in progress.")
        if engine.failover_state != WAITING_FOR_SYNC:
            raise ReplyError("ERR the log is being handed over already, which cannot be called back")
        engine.failover_state = NO_FAILOVER
        return OK
    target, timeout_ms, forced = parse_failover(argv)
    topology = engine.topology
    if engine.failover_state != NO_FAILOVER:
        raise ReplyError(FAILOVER_UNDER_WAY)
    if not topology.is_primary:
        raise ReplyError(FAILOVER_ON_REPLICA)
    if not topology.replicas:
        raise ReplyError(FAILOVER_ALONE)
    if forced and (timeout_ms == 0 or target is None):
        raise ReplyError("ERR FAILOVER with force option requires both a timeout and target HOST and IP.")
    address: str | None = None
    if target is not None:
        found = [member for member in topology.replicas if (member.host, member.port) == target]
        if not found:
            raise ReplyError(FAILOVER_NO_SUCH_REPLICA)
        if not found[0].candidate:
            raise ReplyError("ERR FAILOVER target only follows: it was started with --role replica.")
        address = found[0].address
    elif not [member for member in topology.replicas if member.candidate]:
        raise ReplyError("ERR FAILOVER requires a replica that may become the primary.")
    engine.host.fail_over(address, timeout_ms)
    return OK


def parse_failover(argv: list[bytes]) -> tuple[tuple[str, int] | None, int, bool]:
    """Host and port of the target if one is named, the timeout in ms (0: none is), FORCE. Raises ReplyError."""
    target: tuple[str, int] | None = None
    timeout_ms = 0
    forced = False
    i, n = 1, len(argv)
    while i < n:
        word = argv[i].upper()
        if word == b"TIMEOUT" and i + 1 < n and timeout_ms == 0:
            timeout_ms = parse_int(argv[i + 1])
            if timeout_ms < 1:
                raise ReplyError("ERR FAILOVER timeout must be greater than 0")
            i += 2
        elif word == b"TO" and i + 2 < n and target is None:
            target = (argv[i + 1].decode("utf-8", "surrogateescape"), parse_int(argv[i + 2]))
            i += 3
        elif word == b"FORCE" and not forced:
            forced = True
            i += 1
        else:
            raise syntax_error()
    return target, timeout_ms, forced


def replicaof(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """NO ONE says to a primary what it is already, as in Redis; scripts that set servers up do so."""
    if engine.topology.is_primary and argv[1].lower() == b"no" and argv[2].lower() == b"one":
        return OK
    raise ReplyError(NO_ROLES)


for _name, _since in (("REPLICAOF", "5.0.0"), ("SLAVEOF", "1.0.0")):
    server_command(
        _name, arity=3, flags="admin noscript stale no_async_loading", since=_since, group="server",
        summary="Refused: roles follow from the log. NO ONE is answered by a primary, which it is already.",
    )(replicaof)  # fmt: skip


@server_command(
    "EVENTDB.ANNOUNCE", arity=2, flags="admin noscript loading stale fast allow_busy", since="7.0.0", group="server",
    summary="How a follower reports to the primary that it is alive, and how far it is.",
)  # fmt: skip
def announce(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """EVENTDB.ANNOUNCE json -> the durable offset; NOTPRIMARY host:port (or ?) where the announcement belongs.

    From then on what is published here is passed on over this connection, as pushes of RESP3 whatever HELLO said:
    message or smessage, channel, message, and the offset that a node must have reached before it delivers it.

    json is an object of at most 4 KiB with name, address ("host:port"), candidate, offset, lag_ms
    (Topology: Member.describe); what else it holds is handed on and not judged.
    """
    if len(argv[1]) > ANNOUNCEMENT_BYTES_MAX:
        raise ReplyError(f"ERR an announcement has at most {ANNOUNCEMENT_BYTES_MAX} bytes")
    if client.embedded:
        raise ReplyError("ERR a session inside the program is no node")
    topology = engine.topology
    try:
        found: object = json.loads(argv[1])
        member = member_of(found)
    except (ValueError, RecursionError) as failure:
        raise ReplyError(f"ERR not an announcement: {failure}") from None
    assert isinstance(found, dict)
    if not topology.is_primary:
        raise ReplyError(f"NOTPRIMARY {topology.primary.address if topology.primary is not None else '?'}")
    if member.name == topology.me.name:
        raise ReplyError(f"ERR the primary itself is called '{member.name}': every node needs a name of its own")
    reply = engine.host.announced(member, found)
    engine.pubsub.followers[client] = None
    client.is_node = True
    return OK if reply is None else reply


@server_command(
    "EVENTDB.DURABLE", arity=1, flags="admin noscript stale fast", since="7.0.0", group="server",
    summary="How a replica that answers fresh reads asks the primary how far it is.",
)  # fmt: skip
def durable(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """EVENTDB.DURABLE: the durable offset, while nobody else can have made more durable."""
    topology = engine.topology
    if not topology.is_primary:
        raise ReplyError(f"NOTPRIMARY {topology.primary.address if topology.primary is not None else '?'}")
    if engine.gate & (LEASELESS | LOADING):
        raise ReplyError("MASTERDOWN the lease of this primary has lapsed")
    return integer(engine.commit.durable_offset)


@server_command(
    "EVENTDB.PUBLISH", arity=4, flags="admin noscript loading stale fast allow_busy", since="7.0.0", group="server",
    summary="How a follower passes on what was published at it, in a cluster.",
)  # fmt: skip
def publish(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """EVENTDB.PUBLISH MESSAGE|SMESSAGE channel message, from a node that announced itself; there is no answer."""
    if client not in engine.pubsub.followers:
        raise ReplyError("ERR only a node that has announced itself passes messages on")
    sharded = argv[1].upper() == b"SMESSAGE"
    engine.pubsub.publish(argv[2], argv[3], sharded, None, engine.commit.durable_offset, client)
    return NO_REPLY
