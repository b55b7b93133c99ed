"""Sets. Source: redis src/t_set.c, src/commands/*.json (group set).

Chance and computation stay out of the log: SPOP is logged as SREM (or DEL), SMOVE as SREM and SADD, and the STORE
commands as DEL and SADD of their result. The algebra is Python's own on sets, smallest first.
"""

from __future__ import annotations

from eventdb.commands.shared.counts import REPEATED_MAX, count_to_pop, random_count
from eventdb.commands.shared.lookups import set_to_read, set_to_write
from eventdb.commands.shared.scan_replies import parse_cursor, scan_options, scan_reply
from eventdb.engine.client import Client
from eventdb.engine.registry import command, find_numkeys
from eventdb.keyspace.types.set import Members, SetValue
from eventdb.protocol.errors import (
    LIMIT_NEGATIVE,
    NUMKEYS_TOO_LARGE,
    NUMKEYS_TOO_SMALL,
    VALUE_OUT_OF_RANGE,
    ReplyError,
    syntax_error,
    wrong_type,
)
from eventdb.protocol.glob import glob_match
from eventdb.protocol.numbers import parse_at_least
from eventdb.protocol.replies import EMPTY_ARRAY, NULL3, NULL_BULK, ONE, ZERO, bulk, bulk_set, bulks, integer


@command(
    "SADD", arity=-3, flags="write denyoom fast", keys=(1, 1, 1), acl="set", group="set",
    complexity="O(N), N members given",
    summary="Puts members into a set and creates the set if needed",
)  # fmt: skip
def sadd(client: Client, argv: list[bytes]) -> bytes:
    key = argv[1]
    value = client.lookup_write(key)
    members: Members = ()
    if value is not None:
        if not isinstance(value, SetValue):
            raise wrong_type()
        members = value.members
    if len(argv) == 3:
        if argv[2] in members:
            return ZERO
        client.emit(argv if argv[0] == b"SADD" else [b"SADD", key, argv[2]])
        return ONE
    new = [member for member in dict.fromkeys(argv[2:]) if member not in members]
    if new:
        client.emit([b"SADD", key, *new])
    return integer(len(new))


@command(
    "SREM", arity=-3, flags="write fast", keys=(1, 1, 1), acl="set", group="set",
    complexity="O(N), N members given",
    summary="Takes members out of a set",
)  # fmt: skip
def srem(client: Client, argv: list[bytes]) -> bytes:
    value = set_to_write(client, argv[1])
    if value is None:
        return ZERO
    members = value.members
    if len(argv) == 3:
        if argv[2] not in members:
            return ZERO
        client.emit([b"SREM", argv[1], argv[2]])
        return ONE
    found = [member for member in dict.fromkeys(argv[2:]) if member in members]
    if found:
        client.emit([b"SREM", argv[1], *found])
    return integer(len(found))


@command(
    "SISMEMBER", arity=3, flags="readonly fast", keys=(1, 1, 1), acl="set", group="set",
    summary="Reports whether a value is in a set",
)  # fmt: skip
def sismember(client: Client, argv: list[bytes]) -> bytes:
    value = set_to_read(client, argv[1])
    return ONE if value is not None and argv[2] in value.members else ZERO


@command(
    "SMISMEMBER", arity=-3, flags="readonly fast", keys=(1, 1, 1), acl="set", since="6.2.0", group="set",
    complexity="O(N), N members given",
    summary="Reports of each given value whether it is in a set",
)  # fmt: skip
def smismember(client: Client, argv: list[bytes]) -> bytes:
    value = set_to_read(client, argv[1])
    n = len(argv)
    if value is None:
        return b"*%d\r\n%b" % (n - 2, ZERO * (n - 2))
    members = value.members
    parts: list[bytes] = [b"*%d\r\n" % (n - 2)]
    for i in range(2, n):
        parts.append(ONE if argv[i] in members else ZERO)
    return b"".join(parts)


@command(
    "SMEMBERS", arity=2, flags="readonly", keys=(1, 1, 1), acl="set", group="set",
    complexity="O(N), N members in the set", tips="nondeterministic_output_order",
    summary="Lists a whole set",
)  # fmt: skip
def smembers(client: Client, argv: list[bytes]) -> bytes:
    value = set_to_read(client, argv[1])
    return bulk_set([] if value is None else list(value.members), client.resp3)


@command(
    "SCARD", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="set", group="set",
    summary="Counts the members of a set",
)  # fmt: skip
def scard(client: Client, argv: list[bytes]) -> bytes:
    value = set_to_read(client, argv[1])
    return ZERO if value is None else integer(len(value.members))


@command(
    "SPOP", arity=-2, flags="write fast", keys=(1, 1, 1), acl="set", group="set",
    complexity="O(N), N the count, 1 without one",
    tips="nondeterministic_output",
    summary="Takes random members out of a set",
)  # fmt: skip
def spop(client: Client, argv: list[bytes]) -> bytes:
    key = argv[1]
    n = len(argv)
    if n == 2:
        value = set_to_write(client, key)
        if value is None:
            return NULL3 if client.resp3 else NULL_BULK
        member = value.pick(client.store.rng, 1)[0]
        client.emit([b"SREM", key, member])
        return bulk(member)
    if n > 3:
        raise syntax_error()
    count = count_to_pop(argv[2])
    value = set_to_write(client, key)
    if value is None or count == 0:
        return bulk_set([], client.resp3)
    picked = value.pick(client.store.rng, count)
    if len(picked) == len(value.members):
        client.emit([b"DEL", key])
    else:
        client.emit([b"SREM", key, *picked])
    return bulk_set(picked, client.resp3)


@command(
    "SRANDMEMBER", arity=-2, flags="readonly", keys=(1, 1, 1), acl="set", group="set",
    complexity="O(N), N the count without its sign, 1 without one",
    tips="nondeterministic_output",
    summary="Picks members of a set at random and leaves them there",
)  # fmt: skip
def srandmember(client: Client, argv: list[bytes]) -> bytes:
    n = len(argv)
    if n == 2:
        value = set_to_read(client, argv[1])
        if value is None:
            return NULL3 if client.resp3 else NULL_BULK
        return bulk(value.pick(client.store.rng, 1)[0])
    if n > 3:
        raise syntax_error()
    count = random_count(argv[2])
    value = set_to_read(client, argv[1])
    if value is None or count == 0:
        return EMPTY_ARRAY
    if count < -REPEATED_MAX:
        raise ReplyError(VALUE_OUT_OF_RANGE)
    return bulks(value.pick(client.store.rng, count))


@command(
    "SMOVE", arity=4, flags="write fast", keys=(1, 2, 1), acl="set", group="set",
    summary="Takes a member out of one set and puts it into another",
)  # fmt: skip
def smove(client: Client, argv: list[bytes]) -> bytes:
    source, destination, member = argv[1], argv[2], argv[3]
    found = client.lookup_write(source)
    target = client.lookup_write(destination)
    if found is None:
        return ZERO
    if not isinstance(found, SetValue) or not (target is None or isinstance(target, SetValue)):
        raise wrong_type()
    if member not in found.members:
        return ZERO
    if source == destination:
        return ONE
    client.emit([b"SREM", source, member])
    if target is None or member not in target.members:
        client.emit([b"SADD", destination, member])
    return ONE


# -- algebra


def operands(client: Client, keys: list[bytes]) -> list[Members]:
    """The members of each key, nothing for a missing one; a key of another type is an error wherever it stands."""
    found: list[Members] = []
    for key in keys:
        value = set_to_read(client, key)
        found.append(() if value is None else value.members)
    return found


def intersection(sets: list[Members]) -> list[bytes]:
    ordered = sorted(sets, key=len)
    smallest = ordered[0]
    if len(ordered) == 1 or not smallest:
        return list(smallest)
    result = set(smallest) if isinstance(smallest, tuple) else smallest
    for i in range(1, len(ordered)):
        result = result.intersection(ordered[i])
        if not result:
            break
    return list(result)


def union(sets: list[Members]) -> list[bytes]:
    if len(sets) == 1:
        return list(sets[0])
    ordered = sorted(sets, key=len)
    result = set(ordered.pop())  # a copy of the largest needs no hashing
    for members in ordered:
        result.update(members)
    return list(result)


def difference(sets: list[Members]) -> list[bytes]:
    first = sets[0]
    if not first:
        return []
    result = set(first) if isinstance(first, tuple) else first
    for i in range(1, len(sets)):
        result = result.difference(sets[i])
        if not result:
            break
    return list(result)


def store(client: Client, key: bytes, members: list[bytes]) -> bytes:
    """Put the result of an operation in place of whatever the key holds; an empty one only deletes."""
    if client.lookup_write(key) is not None:
        client.emit([b"DEL", key])
    if members:
        client.emit([b"SADD", key, *members])
    return integer(len(members))


@command(
    "SINTER", arity=-2, flags="readonly", keys=(1, -1, 1), acl="set", group="set",
    complexity="O(N*M) at worst, N members in the smallest of M sets",
    tips="nondeterministic_output_order",
    summary="Lists what all given sets share",
)  # fmt: skip
def sinter(client: Client, argv: list[bytes]) -> bytes:
    return bulk_set(intersection(operands(client, argv[1:])), client.resp3)


@command(
    "SINTERCARD", arity=-3, flags="readonly movablekeys", acl="set", since="7.0.0", group="set",
    find_keys=lambda argv: find_numkeys(argv, 1),
    complexity="O(N*M) at worst, N members in the smallest of M sets",
    summary="Counts what all given sets share, up to a limit",
)  # fmt: skip
def sintercard(client: Client, argv: list[bytes]) -> bytes:
    n = len(argv)
    count = parse_at_least(argv[1], 1, NUMKEYS_TOO_SMALL)
    if count > n - 2:
        raise ReplyError(NUMKEYS_TOO_LARGE)
    limit = 0
    i = 2 + count
    while i < n:
        if i + 1 == n or argv[i].upper() != b"LIMIT":
            raise syntax_error()
        limit = parse_at_least(argv[i + 1], 0, LIMIT_NEGATIVE)
        i += 2
    sets = operands(client, argv[2 : 2 + count])
    if limit:
        return integer(_common(sets, limit))
    return integer(len(intersection(sets)))


def _common(sets: list[Members], limit: int) -> int:
    """How many members all sets share, counted up to `limit`."""
    ordered = sorted(sets, key=len)
    smallest = ordered.pop(0)
    found = 0
    for member in smallest:
        shared = True
        for other in ordered:
            if member not in other:
                shared = False
                break
        if shared:
            found += 1
            if found == limit:
                break
    return found


@command(
    "SINTERSTORE", arity=-3, flags="write denyoom", keys=(1, -1, 1), acl="set", group="set",
    complexity="O(N*M) at worst, N members in the smallest of M sets",
    summary="Saves what all given sets share as a new set",
)  # fmt: skip
def sinterstore(client: Client, argv: list[bytes]) -> bytes:
    return store(client, argv[1], intersection(operands(client, argv[2:])))


@command(
    "SUNION", arity=-2, flags="readonly", keys=(1, -1, 1), acl="set", group="set",
    complexity="O(N), N members in all sets together",
    tips="nondeterministic_output_order",
    summary="Lists what any of the given sets has",
)  # fmt: skip
def sunion(client: Client, argv: list[bytes]) -> bytes:
    return bulk_set(union(operands(client, argv[1:])), client.resp3)


@command(
    "SUNIONSTORE", arity=-3, flags="write denyoom", keys=(1, -1, 1), acl="set", group="set",
    complexity="O(N), N members in all sets together",
    summary="Saves what any of the given sets has as a new set",
)  # fmt: skip
def sunionstore(client: Client, argv: list[bytes]) -> bytes:
    return store(client, argv[1], union(operands(client, argv[2:])))


@command(
    "SDIFF", arity=-2, flags="readonly", keys=(1, -1, 1), acl="set", group="set",
    complexity="O(N), N members in all sets together",
    tips="nondeterministic_output_order",
    summary="Lists what only the first of the given sets has",
)  # fmt: skip
def sdiff(client: Client, argv: list[bytes]) -> bytes:
    return bulk_set(difference(operands(client, argv[1:])), client.resp3)


@command(
    "SDIFFSTORE", arity=-3, flags="write denyoom", keys=(1, -1, 1), acl="set", group="set",
    complexity="O(N), N members in all sets together",
    summary="Saves what only the first of the given sets has as a new set",
)  # fmt: skip
def sdiffstore(client: Client, argv: list[bytes]) -> bytes:
    return store(client, argv[1], difference(operands(client, argv[2:])))


@command(
    "SSCAN", arity=-3, flags="readonly", keys=(1, 1, 1), acl="set", since="2.8.0", group="set",
    complexity="O(1) a call, O(N) for the whole walk over N elements",
    tips="nondeterministic_output",
    summary="Walks through a set in small steps",
)  # fmt: skip
def sscan(client: Client, argv: list[bytes]) -> bytes:
    cursor = parse_cursor(argv[2])
    value = set_to_read(client, argv[1])
    if value is None:
        return scan_reply(0, [])
    count, pattern = scan_options(argv)
    members = value.members
    if value.scanned_whole():
        cursor, found = 0, list(members)
    else:
        cursor, found = value.places().scan(cursor, count)
    if pattern is not None:
        found = [member for member in found if glob_match(pattern, member)]
    return scan_reply(cursor, found)
