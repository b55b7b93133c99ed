"""SENTINEL FAILOVER, RESET, CONFIG, INFO-CACHE and PENDING-SCRIPTS: what operators use, as far as it means something.

Source: redis src/sentinel.c, src/commands/sentinel*.json (7.0).
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.info_sections import report
from eventdb.commands.shared.sentinels import FLAGS, named_primary, service_names
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.host import NO_FAILOVER
from eventdb.engine.registry import command, server_command
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.glob import glob_match
from eventdb.protocol.replies import OK, array, bulk, integer, mapping, null

CONFIG_USAGE: Final = "ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported."


@server_command(
    "SENTINEL FAILOVER", arity=3, flags=FLAGS, since="2.8.4", group="sentinel",
    summary="Hands over to the best replica; only the primary can.",
)  # fmt: skip
def sentinel_failover(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    primary = named_primary(engine, client, argv[2])
    topology = engine.topology
    if engine.failover_state != NO_FAILOVER or topology.handing_over:
        raise ReplyError("INPROG Failover already in progress")
    if not topology.is_primary:
        raise ReplyError(f"ERR only the primary hands over: send it to {primary.address}")
    if not [member for member in topology.replicas if member.candidate]:
        raise ReplyError("NOGOODSLAVE No suitable replica to promote")
    engine.host.fail_over(None, 0)
    return OK


@server_command(
    "SENTINEL RESET", arity=3, flags=FLAGS, since="2.8.4", group="sentinel",
    complexity="O(N) where N is the number of names", summary="Reports how many names of the service match.",
)  # fmt: skip
def sentinel_reset(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """A Sentinel forgets the nodes that are gone and looks anew; here a node that is gone is off the list after 3 s."""
    if engine.slots.mine.primary is None:
        return integer(0)
    names = [name.encode("utf-8", "surrogateescape") for name in service_names(engine)]
    return integer(len([name for name in names if glob_match(argv[2], name)]))


def _settings(engine: Engine) -> dict[bytes, bytes]:
    """What a Sentinel can be set, with the values that are true here; a password is not shown."""
    config = engine.config
    return {
        b"resolve-hostnames": b"yes",
        b"announce-hostnames": b"yes",
        b"announce-ip": config.announce_host.encode(),
        b"announce-port": b"%d" % config.announce_port,
        b"sentinel-user": b"",
        b"sentinel-pass": b"",
    }


@server_command(
    "SENTINEL CONFIG", arity=-3, flags=FLAGS, since="6.2.0", group="sentinel",
    complexity="O(N) where N is the number of parameters", summary="Reports what a Sentinel would have set.",
)  # fmt: skip
def sentinel_config(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    word = argv[2].upper()
    settings = _settings(engine)
    if word == b"GET" and len(argv) == 4:
        items: list[bytes] = []
        for name, value in settings.items():
            if glob_match(argv[3].lower(), name):
                items += [bulk(name), bulk(value)]
        return mapping(items, client.resp3)
    if word != b"SET" or len(argv) != 5:
        raise ReplyError(CONFIG_USAGE)
    shown = argv[3].decode("utf-8", "replace")
    if argv[3].lower() not in settings:
        raise ReplyError(f"ERR Invalid argument '{shown}' to SENTINEL CONFIG SET")
    if settings[argv[3].lower()] != argv[4]:
        raise ReplyError(f"ERR '{shown}' follows from this node's own settings, which CONFIG GET shows")
    return OK


@server_command(
    "SENTINEL INFO-CACHE", arity=-3, flags=FLAGS, since="3.2.0", group="sentinel",
    complexity="O(N) where N is the number of nodes", summary="Reports INFO of this node, and nothing of the others.",
)  # fmt: skip
def sentinel_info_cache(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """A Sentinel asks every node for its INFO. Here they do not ask each other: of others it has heard none, yet."""
    shard = engine.slots.mine
    primary = shard.primary
    items: list[bytes] = []
    for name in service_names(engine):
        encoded = name.encode("utf-8", "surrogateescape")
        if primary is None or encoded not in argv[2:]:
            continue
        found: list[bytes] = []
        for member in [primary, *shard.replicas]:
            mine = member is shard.topology.me
            text = bulk(report(engine, []).encode()) if mine else null(client.resp3)
            found.append(array([integer(0), text]))
        items += [bulk(encoded), array(found)]
    return array(items)


@command(
    "SENTINEL PENDING-SCRIPTS", arity=2, flags=FLAGS, since="2.8.4", group="sentinel",
    summary="Reports of scripts that are to run: there are none.",
)  # fmt: skip
def sentinel_pending_scripts(client: Client, argv: list[bytes]) -> bytes:
    return array([])
