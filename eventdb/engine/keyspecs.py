"""Where the keys of each command stand and what it does to them: COMMAND INFO, GETKEYS and GETKEYSANDFLAGS.

Facts of Redis 7.0, one line for all commands that share them; a test compares them with a real server. A spec reads

    begin:find flags        begin  2          argument 2
                                   STORE@5    after the word STORE, looked for from argument 5 on
                                   ?          known only to the command
                            find   0          the arguments up to begin + 0
                                   -1         the arguments up to the last
                                   -1/2/0     … every second one; the third number divides what is left (XREAD)
                                   n0,1,1     as many as begin + 0 says, from begin + 1 on, each one

and a command may have several, separated by semicolons. Source: redis src/commands/*.json, key_specs.
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.command import WRITE, Command
from eventdb.protocol.numbers import counted

_FACTS: Final = (
    ("1:-1 RM delete", "del unlink"),
    ("1:-1 RO", "exists touch watch"),
    ("1:-1 RO access", "mget sdiff sinter sunion"),
    ("1:-1 RW access", "pfcount"),
    ("1:-1 not_key", "ssubscribe sunsubscribe"),
    ("1:-1/2/0 OW insert", "msetnx"),
    ("1:-1/2/0 OW update", "mset"),
    ("1:n0,1,2 OW update", "msetex"),
    ("1:-2 RW access delete", "blpop brpop bzpopmax bzpopmin"),
    ("1:0 OW insert", "setnx"),
    ("1:0 OW update", "psetex restore restore-asking setex"),
    ("1:0 OW update; 2:-1 RO access", "sdiffstore sunionstore"),
    ("1:0 OW update; 2:0 RO access", "geosearchstore zrangestore"),
    ("1:0 OW update; 2:n0,1,1 RO access", "zdiffstore zinterstore zunionstore"),
    ("1:0 RO", "hexists hlen hstrlen llen scard sismember strlen type xlen zcard"),
    (
        "1:0 RO access",
        "bitcount bitfield_ro bitpos digest dump expiretime geodist geohash geopos georadius_ro georadiusbymember_ro "
        "geosearch get getbit getrange hget hgetall hkeys hmget hrandfield hscan hvals lindex lpos lrange "
        "hexpiretime hpexpiretime hpttl httl "
        "pexpiretime pttl smembers smismember srandmember sscan substr ttl xpending xrange xrevrange zcount "
        "zlexcount zmscore zrandmember zrange zrangebylex zrangebyscore zrank zrevrange zrevrangebylex "
        "zrevrangebyscore zrevrank zscan zscore",
    ),
    ("1:0 RO access; 2:0 OW update", "copy"),
    ("1:0 RO access; ?:? RO access", "sort_ro"),
    ("1:0 RO access; ?:? RO access; ?:? OW update", "sort"),
    ("1:0 RO access; STORE@5:0 OW update; STOREDIST@5:0 OW update", "georadiusbymember"),
    ("1:0 RO access; STORE@6:0 OW update; STOREDIST@6:0 OW update", "georadius"),
    ("1:0 RW access delete", "getdel hgetdel lpop rpop spop zpopmax zpopmin"),
    ("1:0 RW access delete; 2:0 OW insert", "renamenx"),
    ("1:0 RW access delete; 2:0 OW update", "rename"),
    ("1:0 RW access delete; 2:0 RW insert", "blmove brpoplpush lmove rpoplpush smove"),
    ("1:0 RW access insert; 2:-1 RO access", "pfmerge"),
    (
        "1:0 RW access update",
        "decr decrby increx getex getset hgetex hincrby hincrbyfloat incr incrby incrbyfloat move setbit zincrby",
    ),
    ("1:0 RW access update variable_flags", "bitfield set"),
    (
        "1:0 RW delete",
        "delex delifeq hdel lrem ltrim srem xautoclaim xdel xdelex xtrim "
        "zrem zremrangebylex zremrangebyrank zremrangebyscore",
    ),
    ("1:0 RW update delete", "xackdel"),
    ("1:0 RW insert", "append hsetnx linsert lpush lpushx pfadd rpush rpushx sadd"),
    (
        "1:0 RW update",
        "hexpire hexpireat hpersist hpexpire hpexpireat hsetex "
        "expire expireat geoadd hmset hset lset persist pexpire pexpireat setrange xack xadd xclaim xsetid zadd",
    ),
    ("1:0 RW update; 2:-1 RO access", "sinterstore"),
    ("1:0 not_key", "spublish"),
    ("1:1 RO access", "lcs"),
    ("1:n0,1,1 RO access", "sintercard zdiff zinter zintercard zunion"),
    ("1:n0,1,1 RW access delete", "lmpop zmpop"),
    ("2:0 OW update; 3:-1 RO access", "bitop"),
    ("2:0 RO", "memory|usage object|encoding object|freq object|idletime object|refcount"),
    ("2:0 RO access", "xinfo|consumers xinfo|groups xinfo|stream"),
    ("2:0 RW access", "pfdebug"),
    ("2:0 RW delete", "xgroup|delconsumer xgroup|destroy"),
    ("2:0 RW insert", "xgroup|create xgroup|createconsumer"),
    ("2:0 RW update", "xgroup|setid"),
    ("2:n0,1,1 RO access", "eval_ro evalsha_ro fcall_ro"),
    ("2:n0,1,1 RW access delete", "blmpop bzmpop"),
    ("2:n0,1,1 RW access update", "eval evalsha fcall"),
    ("3:0 RW access delete; KEYS@-2:-1 RW access delete incomplete", "migrate"),
    ("?:? RW access update", "eventdb.once"),
    ("STREAMS@1:-1/1/2 RO access", "xread"),
    ("STREAMS@4:-1/1/2 RO access", "xreadgroup"),
)  # fmt: skip


_UNSEEN: Final = "what a script does with its keys is not known before it runs: the most is assumed"
# In our own words, for the specs that Redis explains too: by command, the number of the spec and its note.
_NOTES: Final[dict[str, dict[int, str]]] = {
    "set": {0: "with GET it also returns the value before"},
    "getex": {0: "a read that may change the deadline"},
    "bitfield": {0: "reads, writes or both, as its operations say"},
    "xadd": {0: "may trim entries besides adding one"},
    "pfcount": {0: "may store the count that it has computed"},
    "sort": {
        1: "keys named by BY and GET patterns depend on the elements that are sorted",
        2: "the key after STORE, which may stand anywhere among the options",
    },
    "sort_ro": {1: "keys named by BY and GET patterns depend on the elements that are sorted"},
    "eventdb.once": {0: "the keys of the command after the token"},
    **{name: {0: _UNSEEN} for name in ("eval", "eval_ro", "fcall", "fcall_ro")},
}


class KeySpec:
    """One group of keys of a command."""

    def __init__(self, text: str) -> None:
        where, _, flags = text.strip().partition(" ")
        begin, _, find = where.rpartition(":")
        self.flags: list[str] = flags.split()
        self.note = ""
        self.index = 0
        self.keyword = ""
        self.start_from = 0
        if begin.isdigit():
            self.index = int(begin)
        elif begin != "?":
            self.keyword, _, start = begin.partition("@")
            self.start_from = int(start)
        self.known = begin != "?"
        self.counted = find.startswith("n")  # a number in the arguments says how many keys there are
        numbers = [0, 1, 0]
        for i, number in enumerate(find.lstrip("n").replace("/", ",").split(",")):
            if number != "?":
                numbers[i] = int(number)
        self.numbers = numbers  # last, step, limit; or where the count stands, where the first key, step

    def find(self, argv: list[bytes]) -> list[bytes] | None:
        """The keys of this group; None when the arguments make no sense."""
        begin = self.index
        if self.keyword:
            begin = self._behind_keyword(argv)
            if begin == 0:
                return []
        a, b, c = self.numbers
        if self.counted:
            count = counted(argv[begin + a]) if begin + a < len(argv) else 0
            if count < 1:
                return None
            first = begin + b
            stop = first + count * c
            return argv[first:stop:c] if stop <= len(argv) else None
        last = begin + a if a >= 0 else len(argv) + a
        if c > 1:
            last = begin + (len(argv) - begin) // c - 1
            b = 1
        return argv[begin : last + 1 : b]

    def _behind_keyword(self, argv: list[bytes]) -> int:
        """Index of the argument after the keyword; 0 when it is missing."""
        keyword = self.keyword.encode()
        start = self.start_from
        places = range(start, len(argv) - 1) if start > 0 else range(len(argv) + start, 0, -1)
        for i in places:
            if argv[i].upper() == keyword:
                return i + 1
        return 0


_TEXTS: Final[dict[str, str]] = {name: specs for specs, names in _FACTS for name in names.split(" ")}
_SPECS: Final[dict[str, list[KeySpec]]] = {}


def specs_of(command: Command) -> list[KeySpec]:
    """The specs of a command; for one that Redis 7.0 does not have they follow from its registry entry."""
    found = _SPECS.get(command.name)
    if found is None:
        text = _TEXTS.get(command.name, "")
        if not text and command.first_key:
            last = command.last_key - command.first_key if command.last_key >= 0 else command.last_key
            kind = "RW access update" if command.bits & WRITE else "RO access"
            text = f"{command.first_key}:{last}/{command.key_step}/0 {kind}"
        found = [KeySpec(spec) for spec in text.split(";")] if text else []
        for i, note in _NOTES.get(command.name, {}).items():
            found[i].note = note
        _SPECS[command.name] = found
    return found


def keys_with_flags(command: Command, argv: list[bytes]) -> list[tuple[bytes, list[str]]] | None:
    """Every key that the call names and how it is used; None when the arguments make no sense."""
    if command.inner is not None:
        inner = command.inner(argv)
        return None if isinstance(inner, str) else keys_with_flags(inner, argv[2:])
    found: list[tuple[bytes, list[str]]] = []
    for spec in specs_of(command):
        if "not_key" in spec.flags:
            continue
        if not spec.known:
            taken = [key for key, _ in found]
            found += [(key, ["OW", "update"]) for key in command.keys(argv)[len(taken) :] if "OW" in spec.flags]
            continue
        keys = spec.find(argv)
        if keys is None:
            return None
        flags = _actual_flags(command, argv) if "variable_flags" in spec.flags else spec.flags
        found += [(key, flags) for key in keys]
    return found


def _actual_flags(command: Command, argv: list[bytes]) -> list[str]:
    """SET and BITFIELD read, write or both, as their options say."""
    words = [arg.upper() for arg in argv]
    if command.name == "set":
        reads = not {b"GET", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"}.isdisjoint(words[3:])
        return ["RW", "access", "update"] if reads else ["OW", "update"]
    writes = b"SET" in words[2:] or b"INCRBY" in words[2:]
    return ["RW", "access", "update"] if writes else ["RO", "access"]
