"""A reply in RESP3, written as the same command writes it in RESP2: held to every command there is."""

from __future__ import annotations

import pytest

from eventdb.protocol.downgrade import as_resp2
from tests.kit.calls import calls, filled
from tests.kit.harness import Local

ROUND = (
    "ACL GENPASS",
    "LATENCY",
    "INFO",
    "CLIENT",
    "HELLO",
    "TIME",
    "MEMORY",
    "DEBUG",
    "COMMAND",
    "SLOWLOG",
    "RESET",
    "QUIT",
    "LASTSAVE",
)
MORE = """
LPOP gone 2
LPOP gone
RPOP gone 2
ZPOPMIN z 2
ZPOPMIN z
ZPOPMAX gone 2
ZMPOP 1 gone MIN
LMPOP 1 gone LEFT
ZADD z XX INCR 1 nobody
ZADD z INCR 1.5 q
ZINCRBY z 0.1 q
ZRANGE z 0 -1 WITHSCORES
ZRANGEBYSCORE z -inf inf WITHSCORES
ZUNION 2 y z WITHSCORES
ZINTER 2 y z WITHSCORES
ZDIFF 2 y z WITHSCORES
ZRANDMEMBER z 2 WITHSCORES
HRANDFIELD h 2 WITHVALUES
HGETALL h
SMEMBERS a
SPOP a 2
SPOP a
SPOP gone 2
GEOPOS g p nobody
GEOSEARCH g FROMMEMBER p BYRADIUS 500 km WITHCOORD WITHDIST
XADD gone NOMKSTREAM * f v
XREAD STREAMS x 0
XREAD STREAMS gone 0
XREADGROUP GROUP g c STREAMS x >
XREADGROUP GROUP g c STREAMS x 0
XRANGE x - + COUNT 0
XPENDING x g
XPENDING gone g
XAUTOCLAIM x g c 0 0
XINFO STREAM x FULL
CONFIG GET max*
SORT l GET nothing*
BITFIELD s OVERFLOW FAIL INCRBY u2 0 3 INCRBY u2 0 3
EVAL return{1,false,'a',{double=3.5},{map={a=1}}} 0
EVAL redis.setresp(3)return{true,false,{big_number='123'},{verbatim_string={format='txt',string='hi'}}} 0
EVAL redis.setresp(3)return(false) 0
EVAL redis.setresp(3)return{double=3.25} 0
EVAL redis.setresp(3)return(redis.call('zadd','z','incr','0.5','q')) 0
EVAL return{set={a=true}} 0
EVAL return(nil) 0
"""


def pair(call: list[str], *, multi: bool) -> tuple[bytes, bytes]:
    """The reply in RESP3 as RESP2, and the reply in RESP2."""
    replies: list[bytes] = []
    for version in (3, 2):
        local = filled(Local(seed=11))
        local.raw("HELLO", version)
        if multi:
            local.raw("MULTI")
            local.raw("GET", "gone")
            local.raw(*call)
            local.raw("ZPOPMAX", "y", "1")
            replies.append(local.raw("EXEC"))
        else:
            replies.append(local.raw(*call))
    name = call[0].lower()
    if not replies[0]:
        return replies[0], replies[1]  # it waits
    if multi:
        inside = [("get", 2), (name, len(call)), ("zpopmax", 3)]
        return as_resp2(replies[0], "exec", 1, inside), replies[1]
    return as_resp2(replies[0], name, len(call), []), replies[1]


@pytest.mark.parametrize("call", calls(), ids=" ".join)
def test_every_reply_is_the_one_of_resp2(call: list[str]) -> None:
    if call[0] in ROUND or " ".join(call[:2]) in ROUND:
        pytest.skip("tells of the connection or of the moment")
    made, expected = pair(call, multi=False)
    assert made == expected


@pytest.mark.parametrize("call", [line.split() for line in MORE.strip().split("\n")], ids=" ".join)
def test_every_form_of_a_reply_alone_and_inside_a_transaction(call: list[str]) -> None:
    made, expected = pair(call, multi=False)
    assert made == expected
    made, expected = pair(call, multi=True)
    assert made == expected
