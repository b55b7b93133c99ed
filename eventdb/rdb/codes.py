"""The numbers of Redis's format, and what is said of bytes that do not follow it.

Sources: redis src/rdb.h (types and opcodes up to version 13), valkey src/rdb.h (version 80), redis src/listpack.c.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 10  # of what is written: Redis 7.0's
VERSION_TIMED: Final = 12  # where fields of hashes have deadlines: Redis 7.4's
VERSION_MAX: Final = 13  # of what is read: Redis 8's
VALKEY_VERSION: Final = 80  # Valkey 9's; its numbers from 22 on are its own

STRING: Final = 0
LIST: Final = 1
SET: Final = 2
ZSET: Final = 3
HASH: Final = 4
ZSET_2: Final = 5
MODULE_2: Final = 7
HASH_ZIPMAP: Final = 9
LIST_ZIPLIST: Final = 10
SET_INTSET: Final = 11
ZSET_ZIPLIST: Final = 12
HASH_ZIPLIST: Final = 13
LIST_QUICKLIST: Final = 14
STREAM_LISTPACKS: Final = 15
HASH_LISTPACK: Final = 16
ZSET_LISTPACK: Final = 17
LIST_QUICKLIST_2: Final = 18
STREAM_LISTPACKS_2: Final = 19
SET_LISTPACK: Final = 20
STREAM_LISTPACKS_3: Final = 21
HASH_METADATA_PRE_GA: Final = 22
HASH_LISTPACK_EX_PRE_GA: Final = 23
HASH_METADATA: Final = 24
HASH_LISTPACK_EX: Final = 25
STREAM_LISTPACKS_4: Final = 26
HASH_2_OF_VALKEY: Final = 22

# Types that are known by name only.
UNREAD: Final[dict[int, str]] = {
    6: "module value of a release candidate of Redis 4.0",
    27: "stream with refused messages (Redis 8.8)",
    28: "array (Redis 8.8)",
}

SLOT_IMPORT: Final = 243  # of Valkey; in Redis 8.6 and later it begins a key's metadata
SLOT_INFO: Final = 244
FUNCTION2: Final = 245
FUNCTION_PRE_GA: Final = 246
MODULE_AUX: Final = 247
IDLE: Final = 248
FREQ: Final = 249
AUX: Final = 250
RESIZEDB: Final = 251
EXPIRETIME_MS: Final = 252
EXPIRETIME: Final = 253
SELECTDB: Final = 254
EOF: Final = 255

# A fact before a stream, for what version 10 has no place for: group, consumer, when it was last given an entry, and
# when it last asked. Other servers pass over facts that they do not know.
ACTIVITY: Final = b"eventdb-activity"
# Facts before the databases: state that is no key, as the arguments of the events that make it.
USER: Final = b"eventdb-user"
OUTCOME: Final = b"eventdb-outcome"
MARKED: Final = b"eventdb-mark"
FORGOTTEN: Final = b"eventdb-forgotten"  # when the newest command ran of those whose outcomes were dropped

LENGTH_32: Final = 0x80
LENGTH_64: Final = 0x81
INT8: Final = 0  # of strings that are written as something else: 0xC0 | …
INT16: Final = 1
INT32: Final = 2
LZF: Final = 3

MASK64: Final = (1 << 64) - 1
STRING_BYTES_MAX: Final = (1 << 32) - 1  # no more fits into a record of the log


class BadRdb(ValueError):  # noqa: N818 - as the errors of backends/log.py are named
    """The bytes are not what Redis or Valkey writes: damaged, cut off, or made to harm."""


class Unkept(BadRdb):
    """Something sound that eventdb cannot keep: a module's value, a type that it does not know."""
