"""Channels, patterns, shard channels. Source: redis src/pubsub.c, src/commands/*.json (group pubsub)."""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.pubsub import Listeners, mark
from eventdb.engine.registry import command, container, server_command
from eventdb.pipeline.outbox import REPLY_SKIP
from eventdb.protocol.errors import ReplyError, wrong_subcommand
from eventdb.protocol.glob import glob_match
from eventdb.protocol.replies import NO_REPLY, array, bulk, bulks, integer, lines, null, push

LIST_FLAGS: Final = "pubsub loading stale"
HELP: Final = """
PUBSUB <subcommand> [<arg> ...]. Subcommands are:
CHANNELS [<pattern>]
    Channels with listeners that match the pattern (default: all).
NUMPAT
    How many patterns clients listen to.
NUMSUB [<channel> ...]
    How many clients listen to each of these channels; patterns do not count.
SHARDCHANNELS [<pattern>]
    Shard channels with listeners that match the pattern (default: all).
SHARDNUMSUB [<shardchannel> ...]
    How many clients listen to each of these shard channels.
HELP
    Print this help.
"""


def _confirm(client: Client, what: bytes, name: bytes | None, count: int) -> bytes:
    shown = null(client.resp3) if name is None else bulk(name)
    return push([bulk(what), shown, integer(count)], client.resp3)


def _send(client: Client, confirmations: list[bytes]) -> bytes:
    """Confirmations leave even when CLIENT REPLY silences replies, but EXEC collects them as the command's reply."""
    data = b"".join(confirmations)
    if client.reply_mode == 0 or client.store.in_exec:
        return data
    if client.reply_mode == REPLY_SKIP:
        client.reply_mode = 0
    client.push(data)
    return NO_REPLY


def _count(client: Client) -> int:
    return len(client.channels) + len(client.patterns)


def _subscribe(
    engine: Engine,
    client: Client,
    argv: list[bytes],
    what: bytes,
    table: Listeners,
    own: dict[bytes, None],
    sharded: bool,
) -> bytes:
    pubsub = engine.pubsub
    found: list[bytes] = []
    for name in argv[1:]:
        pubsub.join(table, own, name, client)
        found.append(_confirm(client, what, name, len(own) if sharded else _count(client)))
    mark(client)
    return _send(client, found)


def _unsubscribe(
    engine: Engine,
    client: Client,
    argv: list[bytes],
    what: bytes,
    table: Listeners,
    own: dict[bytes, None],
    sharded: bool,
) -> bytes:
    pubsub = engine.pubsub
    found: list[bytes] = []
    for name in argv[1:] if len(argv) > 1 else list(own):
        pubsub.leave(table, own, name, client)
        found.append(_confirm(client, what, name, len(own) if sharded else _count(client)))
    if not found:
        found.append(_confirm(client, what, None, len(own) if sharded else _count(client)))
    mark(client)
    return _send(client, found)


@server_command(
    "SUBSCRIBE", arity=-2, flags="pubsub noscript loading stale", since="2.0.0", group="pubsub",
    complexity="O(N) where N is the number of channels", summary="Listens to channels.",
)  # fmt: skip
def subscribe(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _subscribe(engine, client, argv, b"subscribe", engine.pubsub.channels, client.channels, False)


@server_command(
    "UNSUBSCRIBE", arity=-1, flags="pubsub noscript loading stale", since="2.0.0", group="pubsub",
    complexity="O(N) where N is the number of channels", summary="Stops listening to channels, or to all of them.",
)  # fmt: skip
def unsubscribe(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _unsubscribe(engine, client, argv, b"unsubscribe", engine.pubsub.channels, client.channels, False)


@server_command(
    "PSUBSCRIBE", arity=-2, flags="pubsub noscript loading stale", since="2.0.0", group="pubsub",
    complexity="O(N) where N is the number of patterns", summary="Listens to the channels that patterns match.",
)  # fmt: skip
def psubscribe(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _subscribe(engine, client, argv, b"psubscribe", engine.pubsub.patterns, client.patterns, False)


@server_command(
    "PUNSUBSCRIBE", arity=-1, flags="pubsub noscript loading stale", since="2.0.0", group="pubsub",
    complexity="O(N) where N is the number of patterns", summary="Stops listening to patterns, or to all of them.",
)  # fmt: skip
def punsubscribe(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _unsubscribe(engine, client, argv, b"punsubscribe", engine.pubsub.patterns, client.patterns, False)


# The keys of the sharded commands are channels: COMMAND INFO shows them, and no read has to wait for them.


@server_command(
    "SSUBSCRIBE", arity=-2, flags="pubsub noscript loading stale", keys=(1, -1, 1), since="7.0.0", group="pubsub",
    complexity="O(N) where N is the number of shard channels", summary="Listens to shard channels.",
)  # fmt: skip
def ssubscribe(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if client.store.in_exec:
        raise ReplyError("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
    return _subscribe(engine, client, argv, b"ssubscribe", engine.pubsub.shards, client.shards, True)


@server_command(
    "SUNSUBSCRIBE", arity=-1, flags="pubsub noscript loading stale", keys=(1, -1, 1), since="7.0.0", group="pubsub",
    complexity="O(N) where N is the number of shard channels", summary="Stops listening to shard channels.",
)  # fmt: skip
def sunsubscribe(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _unsubscribe(engine, client, argv, b"sunsubscribe", engine.pubsub.shards, client.shards, True)


@server_command(
    "PUBLISH", arity=3, flags="pubsub loading stale fast", since="2.0.0", group="pubsub",
    complexity="O(N+M) where N is the number of listeners and M the number of patterns of all clients",
    summary="Sends a message to a channel, once what this client has written is durable.",
)  # fmt: skip
def publish(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return integer(engine.publish(argv[1], argv[2], engine.commit.newest_of(client)))


@server_command(
    "SPUBLISH", arity=3, flags="pubsub loading stale fast", keys=(1, 1, 1), since="7.0.0", group="pubsub",
    complexity="O(N) where N is the number of listeners",
    summary="Sends a message to a shard channel, once what this client has written is durable.",
)  # fmt: skip
def spublish(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return integer(engine.publish(argv[1], argv[2], engine.commit.newest_of(client), True))


container("PUBSUB", since="2.8.0", group="pubsub", summary="Tells who listens to what.")


def _names(argv: list[bytes], table: Listeners) -> bytes:
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    names = list(table)
    return bulks([name for name in names if glob_match(argv[2], name)] if len(argv) == 3 else names)


def _numbers(argv: list[bytes], table: Listeners) -> bytes:
    found: list[bytes] = []
    for name in argv[2:]:
        found += [bulk(name), integer(len(table.get(name, ())))]
    return array(found)


@server_command(
    "PUBSUB CHANNELS", arity=-2, flags=LIST_FLAGS, since="2.8.0", group="pubsub",
    complexity="O(N) where N is the number of channels with listeners", summary="Lists channels with listeners.",
)  # fmt: skip
def pubsub_channels(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _names(argv, engine.pubsub.channels)


@server_command(
    "PUBSUB SHARDCHANNELS", arity=-2, flags=LIST_FLAGS, since="7.0.0", group="pubsub",
    complexity="O(N) where N is the number of shard channels with listeners",
    summary="Lists shard channels with listeners.",
)  # fmt: skip
def pubsub_shardchannels(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _names(argv, engine.pubsub.shards)


@server_command(
    "PUBSUB NUMSUB", arity=-2, flags=LIST_FLAGS, since="2.8.0", group="pubsub",
    complexity="O(N) where N is the number of channels asked for", summary="Counts the listeners of channels.",
)  # fmt: skip
def pubsub_numsub(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _numbers(argv, engine.pubsub.channels)


@server_command(
    "PUBSUB SHARDNUMSUB", arity=-2, flags=LIST_FLAGS, since="7.0.0", group="pubsub",
    complexity="O(N) where N is the number of shard channels asked for",
    summary="Counts the listeners of shard channels.",
)  # fmt: skip
def pubsub_shardnumsub(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _numbers(argv, engine.pubsub.shards)


@server_command(
    "PUBSUB NUMPAT", arity=2, flags=LIST_FLAGS, since="2.8.0", group="pubsub",
    summary="Counts the patterns that clients listen to.",
)  # fmt: skip
def pubsub_numpat(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return integer(len(engine.pubsub.patterns))


@command("PUBSUB HELP", arity=2, flags="loading stale", since="6.2.0", group="pubsub", summary="Explains PUBSUB.")
def pubsub_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
