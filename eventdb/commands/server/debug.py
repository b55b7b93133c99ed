"""DEBUG: what test suites and monitoring ask of a server; off unless enable-debug-command says otherwise.

What harms is not there: no crash, no leak, no change that the log does not have. Source: redis src/debug.c.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from gc import get_referents
from typing import Final

from eventdb.engine.client import WATCHES, Blocked, Client
from eventdb.engine.engine import Engine
from eventdb.engine.permissions import NO_DEBUG
from eventdb.engine.registry import server_command
from eventdb.engine.setting import SettingError, memory
from eventdb.keyspace.generic import encoding_of, references
from eventdb.keyspace.value import Value, digest_of
from eventdb.protocol.errors import NO_SUCH_KEY, NOT_POSITIVE, ReplyError, shown, wrong_subcommand
from eventdb.protocol.glob import glob_match
from eventdb.protocol.numbers import parse_float, parse_int
from eventdb.protocol.replies import (
    OK,
    array,
    bulk,
    double,
    error,
    integer,
    lines,
    mapping,
    null,
    push,
    simple,
    verbatim,
)

logger: Final = logging.getLogger("eventdb")

ADMIN: Final = "admin noscript loading stale protected"
THRESHOLD: Final = "ERR argument must be a memory value bigger than 1 and smaller than 4gb"
BIG: Final = b"1234567999999999999999999999999999999"
POPULATE_MAX: Final = 1_000_000  # keys, in one transaction
HELP: Final = """
DEBUG <subcommand> [<arg> ...]. Subcommands are:
CHANGE-REPL-ID
    Accepted: replicas follow the log, whose id does not change.
DIGEST
    40 hexadecimal digits that depend on all data and on nothing else.
DIGEST-VALUE <key> [<key> ...]
    The same of single values.
ERROR <text>
    Answer with this error.
LOADAOF, RELOAD
    Rebuild the state from the log, compare it with the one in memory and
    go on with it. Writes wait meanwhile. Options of Redis are accepted.
LOG <text>
    Write a line to the server's log.
OBJECT <key>
    How a value is kept; serializedlength is the length of its elements,
    lru_seconds_idle is -1 while times of access are not kept.
POPULATE <count> [<prefix>] [<size>]
    Create the keys <prefix>:0 and so on, those that are not there.
PROTOCOL <type>
    Answer with a value of this type: string, integer, double, bignum, null,
    array, set, map, attrib, push, verbatim, true, false.
QUICKLIST-PACKED-THRESHOLD <size>
    Accepted: lists have no such nodes.
SDSLEN <key>
    Lengths of a key and of its string.
SET-ACTIVE-EXPIRE (0|1)
    Whether keys nobody looks at are deleted when their time has passed.
SLEEP <seconds>
    Stop the server for that long.
STRINGMATCH-LEN <pattern> <text>
    1 if the pattern matches, else 0.
HELP
    Print this help.
"""

HARMFUL: Final = b"ASSERT CRASH-AND-RECOVER LEAK OOM PANIC RESTART SEGFAULT"
LAYOUTS: Final = b"HTSTATS HTSTATS-KEY LISTPACK QUICKLIST ZIPLIST STRUCTSIZE JMAP MALLCTL MALLCTL-STR DICT-STATS"
PARTS_OF_REDIS: Final = (
    b"AOF-FLUSH-SLEEP CONFIG-REWRITE-FORCE-ALL REPLICATE DROP-CLUSTER-PACKET-FILTER SET-SKIP-CHECKSUM-VALIDATION"
    b" CLIENT-EVICTION PAUSE-CRON REPLYBUFFER CLUSTERLINK SET-DISABLE-DENY-SCRIPTS"
)
REFUSED: Final = (
    (HARMFUL, "a server does not harm itself; a signal to its process does (kill -9, kill -STOP)"),
    (LAYOUTS, "Redis's layouts and allocator are not used; DEBUG OBJECT, OBJECT ENCODING and MEMORY USAGE answer"),
    (PARTS_OF_REDIS, "eventdb does not have that part of Redis"),
)

Part = Callable[[Engine, Client, list[bytes]], bytes]


@server_command(
    "DEBUG", arity=-2, flags=ADMIN, whole=True, group="server", complexity="That of the subcommand",
    summary="For tests of the server; off unless enable-debug-command says otherwise.",
)  # fmt: skip
def debug(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not engine.permissions.may_debug(client):  # it has passed no gate
        raise ReplyError(NO_DEBUG)
    found = _PARTS.get(argv[1].upper())
    if found is not None:
        low, high, part = found
        if low <= len(argv) - 2 <= high:
            return part(engine, client, argv)
    else:
        for names, why in REFUSED:
            if argv[1].upper() in names.split():
                raise ReplyError(f"ERR DEBUG {shown(argv[1].upper())} is not here: {why}")
    raise wrong_subcommand(argv)


def _help(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)


def _accepted(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return OK


def _sleep(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    time.sleep(max(0.0, parse_float(argv[2])))
    return OK


def _set_active_expire(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    engine.expiry.enabled = parse_int(argv[2]) != 0
    return OK


def _error(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    raise ReplyError(argv[2].decode("utf-8", "surrogateescape").replace("\r", " ").replace("\n", " "))


def _log(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    logger.warning("DEBUG LOG: %s", argv[2][:1024].decode("utf-8", "backslashreplace"))
    return OK


def _threshold(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    try:
        size = memory(argv[2].decode("utf-8", "surrogateescape"))
    except SettingError:
        raise ReplyError(THRESHOLD) from None
    if size > 1 << 32:
        raise ReplyError(THRESHOLD)
    return OK


def _digest(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not engine.key_count():
        return simple(b"0" * 40)
    return simple(hashlib.sha1(engine.digest().encode(), usedforsecurity=False).hexdigest().encode())


def _digest_value(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return array([simple(_digest_of(client, key)) for key in argv[2:]])


def _digest_of(client: Client, key: bytes) -> bytes:
    value = client.lookup(key)
    if value is None:
        return b"0" * 40
    if isinstance(value, Value):
        parts = [value.type_name(), value.digest().to_bytes(16, "big")]
    else:
        assert isinstance(value, (bytes, bytearray))
        parts = [b"string", bytes(value)]
    parts.append(b"%d" % client.db.expires.get(key, 0))
    return hashlib.sha1(b"%032x" % digest_of(parts), usedforsecurity=False).hexdigest().encode()


def _value(client: Client, key: bytes) -> object:
    value = client.lookup(key)
    if value is None:
        raise ReplyError(NO_SUCH_KEY)
    return value


def _object(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    value, accesses = _value(client, argv[2]), engine.store.accesses
    kept = isinstance(value, Value)
    encoding = encoding_of(value, engine.store.keyspace.limits)
    idle = -1
    if accesses is not None and accesses.times:
        idle = accesses.idle_seconds(client.db, argv[2], engine.store.now_ms)
    clock = (engine.store.now_ms // 1000 - max(0, idle)) & 0xFFFFFF
    return simple(
        b"Value at:0x%x refcount:%d encoding:%b serializedlength:%d lru:%d lru_seconds_idle:%d"
        % (id(value), references(value), encoding, _content_bytes(value) if kept else len(value), clock, idle)  # type: ignore[arg-type]
    )


def _content_bytes(value: object) -> int:
    """The length of all byte strings inside a value."""
    total, seen = 0, {id(value)}
    rest = [value]
    while rest:
        thing = rest.pop()
        if isinstance(thing, (bytes, bytearray)):
            total += len(thing)
        elif isinstance(thing, (Value, dict, list, tuple, set, frozenset, deque)):
            for part in get_referents(thing):
                if isinstance(part, (bytes, bytearray)):
                    total += len(part)
                elif id(part) not in seen and not isinstance(part, type):
                    seen.add(id(part))
                    rest.append(part)
    return total


def _sdslen(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    key, value = argv[2], _value(client, argv[2])
    if not isinstance(value, (bytes, bytearray)):
        raise ReplyError("ERR Not an sds encoded string.")
    return simple(
        b"key_sds_len:%d, key_sds_avail:0, key_zmalloc: %d, val_sds_len:%d, val_sds_avail:0, val_zmalloc: %d"
        % (len(key), sys.getsizeof(key), len(value), sys.getsizeof(value))
    )


def _populate(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """A write, though DEBUG is none by its flags: so it is refused wherever writes are not run at once."""
    count = parse_int(argv[2], NOT_POSITIVE)
    prefix = argv[3] if len(argv) > 3 else b"key"
    size = parse_int(argv[4], NOT_POSITIVE) if len(argv) > 4 else 0
    if count < 0 or size < 0:
        raise ReplyError(NOT_POSITIVE)
    if count > POPULATE_MAX or count * max(32, size) > engine.multi_bytes_max:
        raise ReplyError("ERR that is too much for one transaction")
    if engine.gate & ~WATCHES:
        raise ReplyError("ERR this node takes no writes now")
    for i in range(count):
        key, value = b"%b:%d" % (prefix, i), b"value:%d" % i
        if client.lookup_write(key) is None:
            client.emit([b"SET", key, value[:size].ljust(size, b"\0") if size else value])
    return OK


def _reload(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if argv[1].upper() == b"RELOAD" and any(arg.upper() not in (b"MERGE", b"NOFLUSH", b"NOSAVE") for arg in argv[2:]):
        raise ReplyError("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    if engine.store.in_exec:
        raise ReplyError("ERR the state cannot be rebuilt inside a transaction")

    waiting: list[Blocked | None] = []

    def done(failure: str) -> None:
        if client.blocked is not None and client.blocked is waiting[0]:  # and no other command by now
            engine.block_ends(client, error(failure) if failure else OK)

    engine.host.reload(done)
    reply = client.block(argv, [], 0, OK)
    waiting.append(client.blocked)
    return reply


def _stringmatch(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return integer(int(glob_match(argv[2], argv[3], False)))


def _protocol(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    resp3 = client.resp3
    kind = argv[2].lower()
    numbers = [integer(0), integer(1), integer(2)]
    if kind == b"attrib" and resp3:
        attribute = b"|1\r\n" + bulk(b"key-popularity") + array([bulk(b"key:123"), integer(90)])
        return attribute + bulk(b"Some real reply following the attribute")
    if kind == b"push":
        if not resp3:
            raise ReplyError("ERR RESP2 is not supported by this command")
        return push([bulk(b"server-cpu-usage"), integer(42)], True)
    values = {
        b"string": bulk(b"Hello World"),
        b"integer": integer(12345),
        b"double": double(3.141, resp3),
        b"bignum": b"(%b\r\n" % BIG if resp3 else bulk(BIG),
        b"null": null(resp3),
        b"array": array(numbers),
        b"set": b"~" + array(numbers)[1:] if resp3 else array(numbers),
        b"map": mapping([part for i in range(3) for part in (integer(i), _truth(i == 1, resp3))], resp3),
        b"attrib": bulk(b"Some real reply following the attribute"),
        b"verbatim": verbatim(b"This is a verbatim\nstring", resp3),
        b"true": _truth(True, resp3),
        b"false": _truth(False, resp3),
    }
    if kind not in values:
        raise ReplyError(
            "ERR Wrong protocol type name. Please use one of the following: "
            "string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false"
        )
    return values[kind]


def _truth(value: bool, resp3: bool) -> bytes:
    if resp3:
        return b"#t\r\n" if value else b"#f\r\n"
    return integer(int(value))


MANY: Final = 1 << 31
# By name: how many arguments it may have, and what it does.
_PARTS: Final[dict[bytes, tuple[int, int, Part]]] = {
    b"HELP": (0, 0, _help),
    b"CHANGE-REPL-ID": (0, 0, _accepted),
    b"DIGEST": (0, 0, _digest),
    b"DIGEST-VALUE": (0, MANY, _digest_value),
    b"ERROR": (1, 1, _error),
    b"LOADAOF": (0, 0, _reload),
    b"LOG": (1, 1, _log),
    b"OBJECT": (1, 2, _object),
    b"POPULATE": (1, 3, _populate),
    b"PROTOCOL": (1, 1, _protocol),
    b"QUICKLIST-PACKED-THRESHOLD": (1, 1, _threshold),
    b"RELOAD": (0, MANY, _reload),
    b"SDSLEN": (1, 1, _sdslen),
    b"SET-ACTIVE-EXPIRE": (1, 1, _set_active_expire),
    b"SLEEP": (1, 1, _sleep),
    b"STRINGMATCH-LEN": (2, 2, _stringmatch),
}
