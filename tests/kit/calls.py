"""One call or more of every command, for tests that ask something of all of them.

The keyspace that `filled` makes: s and t hold strings, n a number, l and m lists, h a hash, o one whose field has a
deadline, a and b sets, y and z sorted sets, x a stream with group g, v a string with a deadline, i and j HyperLogLogs,
g places. The payloads of RESTORE, a string and a list, are of an older version, and such that they fit into a line.
A command without a line here fails the tests that use the table.
"""

from __future__ import annotations

import functools

from eventdb import commands
from eventdb.engine.registry import COMMANDS
from eventdb.rdb.functions import dump
from tests.kit.harness import Local

commands.load()
ALL = {one.name: one for each in COMMANDS.values() for one in (each, *each.subcommands.values())}

FILL = """
SET s hello
SET t world
SET n 5
SET v short-lived PX 100000
RPUSH l 1 2 3
RPUSH m 4 5
GEOADD g 13.361389 38.115556 p 15.087269 37.502669 q
HSET h f 1 g 2
HSETEX o PX 100000 FIELDS 1 f 1
SADD a 1 2 3
SADD b 2 3 4
PFADD i a b c
PFADD j c d
ZADD y 1 p 2 q
ZADD z 2 q 3 r
XADD x 1-1 f v
XADD x 2-1 f w
XADD x 3-1 f x
XGROUP CREATE x g 0
XREADGROUP GROUP g c COUNT 2 STREAMS x >
"""

CALLS = """
ACL WHOAMI
ACL CAT
ACL DELUSER nobody
ACL DRYRUN default GET s
ACL GENPASS
ACL GETUSER default
ACL HELP
ACL LIST
ACL LOAD
ACL LOG
ACL SAVE
ACL SETUSER someone on nopass
ACL USERS
APPEND s more
ASKING
AUTH secret
BGREWRITEAOF
BGSAVE
BITCOUNT s 0 -1 BIT
BITFIELD s SET u8 0 1 INCRBY i5 100 3
BITFIELD s GET u4 0
BITFIELD_RO s GET u4 0
BITOP AND new s t
BITOP DIFF new gone none
BITPOS s 1
BLMOVE l m LEFT RIGHT 1
BLMPOP 1 2 gone l LEFT
BLPOP gone l 1
BRPOP l 1
BRPOPLPUSH l m 1
BZMPOP 1 1 z MIN
BZPOPMAX z 1
BZPOPMIN gone z 1
COMMAND
COPY s new
COPY s new DB 1
DBSIZE
DEBUG SET-ACTIVE-EXPIRE 1
LOLWUT
DECR n
DECRBY n 2
DEL s gone t
DELEX s IFEQ hello
DELEX s IFDNE 0123456789abcdef
DELIFEQ s hello
DIGEST s
DISCARD
DUMP s
DUMP gone
ECHO hello
EVENTDB.ATOMIC OFF
EVENTDB.DIGEST
EVENTDB.DURABLE
EVENTDB.MARK before-deploy
EVENTDB.MARKS
EVENTDB.OFFSET
EVENTDB.ONCE token INCR n
EVENTDB.OUTCOME token
EVENTDB.WAITFOR 0
EVAL return{redis.call('get',KEYS[1])} 1 s
EVAL_RO return{redis.call('lrange','l',0,-1)} 1 s
EVALSHA 0000000000000000000000000000000000000000 1 s
EVALSHA_RO 0000000000000000000000000000000000000000 1 s
EXEC
EXISTS s gone
EXPIRE s 100
EXPIRE s -1
EXPIREAT s 99999999999
EXPIRETIME v
FLUSHALL
FLUSHDB
GEOADD g CH 2.35 48.85 new 13.361389 38.115556 p
GEODIST g p q KM
GEOHASH g p gone
GEOPOS g p gone
GEORADIUS g 15 37 200 km WITHDIST
GEORADIUS g 15 37 200 km STORE new
GEORADIUSBYMEMBER g p 200 km STOREDIST new
GEORADIUSBYMEMBER_RO g p 200 km
GEORADIUS_RO g 15 37 200 km
GEOSEARCH g FROMMEMBER p BYBOX 400 400 km WITHCOORD WITHHASH
GEOSEARCHSTORE new g FROMLONLAT 15 37 BYRADIUS 200 km
GET s
GETBIT s 1
GETDEL s
GETEX s EX 100
GETEX v PERSIST
GETRANGE s 0 2
GETSET s new
HDEL h f
HELLO 3
HEXISTS h f
HEXPIRE h 100 FIELDS 2 f gone
HEXPIRE h 0 FIELDS 1 f
HEXPIREAT h 9999999999 FIELDS 1 f
HEXPIRETIME h FIELDS 1 f
HGET h f
HGETALL h
HGETDEL h FIELDS 1 f
HGETEX h EX 100 FIELDS 1 f
HGETEX o PERSIST FIELDS 1 f
HINCRBY h f 1
HINCRBYFLOAT h f 1.5
HKEYS h
HLEN h
HMGET h f gone
HMSET h f 9
HPERSIST o FIELDS 1 f
HPEXPIRE h 100000 NX FIELDS 1 f
HPEXPIREAT h 9999999999999 FIELDS 1 f
HPEXPIRETIME o FIELDS 1 f
HPTTL o FIELDS 1 f
HRANDFIELD h 2 WITHVALUES
HSCAN h 0
HSET h f 1 k 2
HSETEX h FXX PX 100000 FIELDS 1 f 2
HSETEX o KEEPTTL FIELDS 1 f 2
HSETNX h k 2
HSTRLEN h f
HTTL o FIELDS 2 f gone
HVALS h
INCR n
INCRBY n 3
INCRBYFLOAT n 1.5
INCREX n BYINT 3 UBOUND 7 SATURATE EX 100
INCREX new BYFLOAT 1.5
INFO
KEYS *
LASTSAVE
LCS s t
LINDEX l 0
LINSERT l BEFORE 2 x
LLEN l
LMOVE l m LEFT RIGHT
LMPOP 2 gone l LEFT COUNT 2
LPOP l
LPOS l 2
LPUSH l 0
LPUSHX l 0
LRANGE l 0 -1
LREM l 0 2
LSET l 0 x
LTRIM l 1 1
MGET s t gone
MOVE s 1
MSET s 1 new 2
MSETEX 2 s 1 new 2 EX 100
MSETEX 2 s 1 v 2 XX KEEPTTL
MSETNX new 1 newer 2
MSETNX s 1 newer 2
MULTI
PERSIST v
PEXPIRE s 100000
PEXPIREAT s 99999999999999
PEXPIRETIME v
PFADD i d
PFADD new
PFCOUNT i
PFCOUNT i j gone
PFDEBUG GETREG i
PFMERGE i j
PFMERGE new i j
PFSELFTEST
PING
PSETEX s 100000 x
PTTL v
PSYNC ? -1
PUBLISH channel message
PUNSUBSCRIBE
QUIT
RANDOMKEY
READONLY
READWRITE
RENAME s new
RENAMENX s new
RENAMENX s t
REPLCONF rdb-only 1
RESET
RESTORE new 0 \0\5lnmjv\b\0ukN|<!RV
RESTORE s 100000 \1\2\5fnevz\1b\b\0H>ht_Z9w REPLACE
RESTORE l 9999999999999 \0\5lnmjv\b\0ukN|<!RV REPLACE ABSTTL
RESTORE l 1 \0\5lnmjv\b\0ukN|<!RV REPLACE ABSTTL
RESTORE new 1 \0\5lnmjv\b\0ukN|<!RV ABSTTL
RESTORE s 0 \1\2\5fnevz\1b\b\0H>ht_Z9w
RESTORE-ASKING new 0 \1\2\5fnevz\1b\b\0H>ht_Z9w
ROLE
RPOP l 2
RPOPLPUSH l m
RPUSH l 9
RPUSHX l 9
SADD a 9
SAVE
SCAN 0
SCARD a
FCALL sum 1 s
FCALL_RO sum 1 s
FUNCTION DELETE lib
FUNCTION DUMP
FUNCTION FLUSH
FUNCTION HELP
FUNCTION KILL
FUNCTION LIST WITHCODE
FUNCTION LOAD #!lua
FUNCTION RESTORE x
FUNCTION STATS
SCRIPT DEBUG NO
SCRIPT EXISTS 0000000000000000000000000000000000000000
SCRIPT SHOW 0000000000000000000000000000000000000000
COMMANDLOG GET 10 slow
COMMANDLOG LEN large-reply
COMMANDLOG RESET slow
COMMANDLOG HELP
SCRIPT FLUSH
SCRIPT HELP
SCRIPT KILL
SCRIPT LOAD return
SDIFF a b
SDIFFSTORE new a b
SELECT 1
SET s x
SET s x PX 1000 GET
SET s x NX
SET s x IFEQ hello GET
SET new x IFNE hello KEEPTTL
SETBIT s 7 1
SETBIT new 7 0
SETEX s 100 x
SETNX new x
SETRANGE s 1 X
SINTER a b
SINTERCARD 2 a b
SINTERSTORE new a b
SISMEMBER a 1
SMEMBERS a
SMISMEMBER a 1 9
SMOVE a b 1
SORT l
SORT l BY s* GET # STORE new
SORT_RO l DESC
SPOP a
SPUBLISH channel message
SRANDMEMBER a 2
SREM a 1
SSCAN a 0
STRLEN s
SUBSTR s 0 1
SUNION a b
SUNIONSTORE new a b
SUNSUBSCRIBE
SWAPDB 0 1
SYNC
TIME
TOUCH s gone
TTL v
TYPE s
UNLINK s t
UNSUBSCRIBE
UNWATCH
WAIT 0 10
WAITAOF 0 0 10
WATCH s
XACK x g 1-1 9-9
XACKDEL x g DELREF IDS 2 1-1 9-9
XADD new * f v
XADD x NOMKSTREAM MAXLEN = 2 9-* f v
XAUTOCLAIM x g d 0 0
XCLAIM x g d 0 1-1
XDEL x 1-1 9-9
XDELEX x ACKED IDS 2 1-1 9-9
XDELEX x DELREF IDS 1 1-1
XLEN x
XPENDING x g
XPENDING x g - + 10
XRANGE x - +
XREAD BLOCK 1 STREAMS gone $
XREAD COUNT 1 STREAMS x gone 0 0
XREADGROUP GROUP g c STREAMS x 0
XREADGROUP GROUP g d BLOCK 1 STREAMS x >
XREVRANGE x + -
XSETID x 9-9
XTRIM x MAXLEN 1
XTRIM x MAXLEN 0 ACKED
XTRIM x MINID 3 DELREF
ZADD z 5 new
ZCARD z
ZCOUNT z 0 9
ZDIFF 2 y z WITHSCORES
ZDIFFSTORE new 2 y z
ZINCRBY z 1 q
ZINTER 2 y z
ZINTERCARD 2 y z
ZINTERSTORE new 2 y z
ZLEXCOUNT z - +
ZMPOP 2 gone z MIN
ZMSCORE z q gone
ZPOPMAX z
ZPOPMIN z
ZRANDMEMBER z 2
ZRANGE z 0 -1
ZRANGEBYLEX z - +
ZRANGEBYSCORE z 0 9
ZRANGESTORE new z 0 -1
ZRANK z q
ZREM z q
ZREMRANGEBYLEX z - +
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYSCORE z 0 9
ZREVRANGE z 0 -1
ZREVRANGEBYLEX z + -
ZREVRANGEBYSCORE z 9 0
ZREVRANK z q
ZSCAN z 0
ZSCORE z q
ZUNION 2 y z
ZUNIONSTORE new 2 y z WEIGHTS 1 2
CLIENT CACHING YES
CLIENT GETNAME
CLIENT GETREDIR
CLIENT HELP
CLIENT ID
CLIENT INFO
CLIENT KILL 10.0.0.1:1
CLIENT LIST
CLIENT NO-EVICT ON
CLIENT NO-TOUCH ON
CLIENT CAPA redirect
CLIENT PAUSE 1
CLIENT REPLY ON
CLIENT SETINFO LIB-NAME x
CLIENT SETNAME x
CLIENT TRACKING OFF
CLIENT TRACKING ON BCAST
CLIENT TRACKINGINFO
CLIENT UNBLOCK 99
CLIENT UNPAUSE
CONFIG GET *
CONFIG HELP
CONFIG RESETSTAT
CONFIG REWRITE
CONFIG SET timeout 0
MEMORY DOCTOR
MONITOR
MEMORY HELP
MEMORY MALLOC-STATS
MEMORY PURGE
MEMORY STATS
MEMORY USAGE h
OBJECT ENCODING h
OBJECT FREQ h
OBJECT HELP
OBJECT IDLETIME h
OBJECT REFCOUNT h
XGROUP CREATE new g $ MKSTREAM
XGROUP CREATECONSUMER x g d
XGROUP DELCONSUMER x g c
XGROUP DESTROY x g
XGROUP HELP
XGROUP SETID x g 0
XINFO CONSUMERS x g
XINFO GROUPS x
XINFO HELP
XINFO STREAM x FULL
CLUSTER COUNTKEYSINSLOT 3828
CLUSTER SLOT-STATS ORDERBY key-count LIMIT 2
CLUSTER GETKEYSINSLOT 3828 10
"""

# What answers an error whatever it is given, or touches no key by its nature: nothing to ask of them here.
UNASKED = (
    "CLUSTER", "COMMAND|", "SENTINEL", "LATENCY", "SLOWLOG", "PUBSUB", "MODULE", "ACL|", "REPLICAOF", "SLAVEOF",
    "MIGRATE",
    "FAILOVER", "SHUTDOWN", "EVENTDB.ANNOUNCE", "EVENTDB.PUBLISH", "EVENTDB.RESTORE",
    "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
)  # fmt: skip


def filled(local: Local) -> Local:
    """Bring the keyspace into the state that CALLS are written for."""
    for line in FILL.split("\n"):
        if line:
            local.raw(*line.split())
    return local


def calls() -> list[list[str]]:
    return [line.split(" ") for line in CALLS.split("\n") if line]


def words_of(name: str) -> list[bytes]:
    return [word.encode() for word in name.upper().split("|")]


def library(name: bytes) -> bytes:
    return b"#!lua name=%b\nredis.register_function('%b', function() return 1 end)" % (name, name)


@functools.cache
def calls_of() -> dict[str, list[list[bytes]]]:
    """Every command's calls."""
    found: dict[str, list[list[bytes]]] = {name: [] for name in ALL}
    for call in calls():
        argv = [word.encode() for word in call]
        name = call[0].lower()
        if len(call) > 1 and f"{name}|{call[1].lower()}" in ALL:
            name = f"{name}|{call[1].lower()}"
        found[name].append(argv)
    found["function|load"].append([b"FUNCTION", b"LOAD", library(b"new")])
    found["function|restore"].append([b"FUNCTION", b"RESTORE", dump([library(b"restored")])])
    for name, command in ALL.items():
        if not found[name]:
            argv = words_of(name)
            found[name] = [argv + [b"x"] * (abs(command.arity) - len(argv))]
    return found
