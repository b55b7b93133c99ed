"""CLIENT and shard channels beside a real redis-server: every subcommand's errors and replies, in RESP2 and RESP3."""

from __future__ import annotations

import re

import pytest

from tests.kit.differential import Address
from tests.kit.harness import Local
from tests.kit.listening import Listening

ADDRESS = re.compile(rb"127\.0\.0\.1:\d+")

CALLS = """
CLIENT
CLIENT NOPE
CLIENT KILL
CLIENT KILL x
CLIENT KILL 1.2.3.4:5
CLIENT KILL ID x
CLIENT KILL ID 0
CLIENT KILL ID -1
CLIENT KILL ID 999999
CLIENT KILL ID 999999 ID 888888
CLIENT KILL ID
CLIENT KILL ID 1 x
CLIENT KILL TYPE x
CLIENT KILL TYPE master
CLIENT KILL TYPE slave
CLIENT KILL TYPE replica
CLIENT KILL TYPE pubsub ID 99999
CLIENT KILL USER nope
CLIENT KILL USER default ID 99999
CLIENT KILL ADDR x LADDR y
CLIENT KILL SKIPME x ID 99999
CLIENT KILL SKIPME no ID 99999
CLIENT KILL SKIPME yes ID 99999
CLIENT KILL NOPE x
CLIENT LIST x
CLIENT LIST TYPE
CLIENT LIST TYPE x
CLIENT LIST TYPE master
CLIENT LIST TYPE pubsub
CLIENT LIST ID
CLIENT LIST ID x
CLIENT LIST ID 999999
CLIENT LIST ID 999999 x
CLIENT LIST TYPE normal x
CLIENT INFO x
CLIENT ID x
CLIENT PAUSE
CLIENT PAUSE x
CLIENT PAUSE -1
CLIENT UNPAUSE
CLIENT UNPAUSE x
CLIENT UNBLOCK
CLIENT UNBLOCK x
CLIENT UNBLOCK 999999
CLIENT UNBLOCK 999999 x
CLIENT UNBLOCK 999999 ERROR
CLIENT UNBLOCK 999999 TIMEOUT x
CLIENT NO-EVICT
CLIENT NO-EVICT x
CLIENT NO-EVICT on
CLIENT NO-EVICT off
CLIENT REPLY
CLIENT REPLY x
CLIENT REPLY ON
CLIENT SETNAME
CLIENT SETNAME a
CLIENT GETNAME
CLIENT GETNAME
CLIENT GETREDIR
CLIENT TRACKINGINFO
CLIENT CACHING x
CLIENT CACHING YES
CLIENT TRACKING
CLIENT TRACKING ON x
SSUBSCRIBE
SPUBLISH a
SPUBLISH a b
PUBSUB
PUBSUB NOPE
PUBSUB SHARDCHANNELS
PUBSUB SHARDCHANNELS a b
PUBSUB SHARDNUMSUB
PUBSUB SHARDNUMSUB a b
PUBSUB CHANNELS
PUBSUB NUMSUB a
PUBSUB NUMPAT
PUBSUB NUMPAT x
"""
LISTENED = """
SPUBLISH a b
PUBSUB SHARDCHANNELS
PUBSUB SHARDCHANNELS b*
PUBSUB SHARDNUMSUB a b
PUBSUB CHANNELS
PUBLISH a b
"""
QUEUED = """
MULTI
CLIENT UNBLOCK 999
CLIENT NO-EVICT on
CLIENT KILL ID 999999
CLIENT TRACKINGINFO
CLIENT REPLY ON
SSUBSCRIBE x
SUNSUBSCRIBE x
EXEC
"""


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_subcommands_answer_as_redis_does(redis_server: Address, resp3: bool) -> None:
    with Listening(redis_server, [resp3], lambda data: ADDRESS.sub(b"ADDRESS", data)) as both:
        for line in CALLS.split("\n")[1:-1]:
            both.step(0, *line.split(" "))


@pytest.mark.redis
@pytest.mark.parametrize("resp3", [False, True])
def test_shard_channels_are_those_of_redis(redis_server: Address, resp3: bool) -> None:
    with Listening(redis_server, [False, resp3]) as both:
        both.step(1, "SSUBSCRIBE", "a")
        for line in LISTENED.split("\n")[1:-1]:
            both.step(0, *line.split(" "))
        for line in ("GET x", "PING", "SUNSUBSCRIBE a", "SUNSUBSCRIBE", "SUNSUBSCRIBE x", "GET x"):
            both.step(1, *line.split(" "))
        for line in QUEUED.split("\n")[1:-1]:
            both.step(0, *line.split(" "))


def test_kill_by_age_spares_those_that_came_later() -> None:
    local = Local()
    old = local.connect()
    local.engine.store.now_ms += 60_000
    young = local.connect()
    assert local.raw("CLIENT", "KILL", "MAXAGE", "61") == b":0\r\n"
    assert local.raw("CLIENT", "KILL", "MAXAGE", "60") == b":1\r\n"
    assert old.id not in local.engine.clients and young.id in local.engine.clients
    assert local.raw("CLIENT", "KILL", "MAXAGE", "0") == b"-ERR maxage should be greater than 0\r\n"
    assert local.raw("CLIENT", "KILL", "MAXAGE", "x") == b"-ERR maxage is not an integer or out of range\r\n"
