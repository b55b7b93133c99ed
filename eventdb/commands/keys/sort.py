"""SORT and SORT_RO. Source: redis src/sort.c.

BY and GET read keys that the command does not name, so the reply waits for every pending write. SORT … STORE is logged
as the DEL of what was there and the RPUSH of the result. Bytes compare as in the C locale.
"""

from __future__ import annotations

from eventdb.commands.shared.hash_fields import field_of
from eventdb.engine.client import RESTRICTED, Client
from eventdb.engine.gates import not_in_cluster
from eventdb.engine.registry import command
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.set import SetValue
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.protocol.errors import ReplyError, syntax_error, wrong_type
from eventdb.protocol.numbers import parse_float, parse_int
from eventdb.protocol.replies import NULL3, NULL_BULK, array, bulk, integer

NOT_A_SCORE = "ERR One or more scores can't be converted into double"
SPACES = b" \t\n\v\f\r"


class Plan:
    """The options of one SORT."""

    def __init__(self) -> None:
        self.descending = False
        self.alpha = False
        self.start = 0
        self.count = -1
        self.by: bytes | None = None
        self.keep_order = False  # BY a pattern without a star
        self.gets: list[bytes] = []
        self.store: bytes | None = None


def parse_plan(client: Client, argv: list[bytes], may_store: bool) -> Plan:
    plan = Plan()
    at, n = 2, len(argv)
    while at < n:
        word = argv[at].upper()
        left = n - at - 1
        if word == b"ASC" or word == b"DESC":
            plan.descending = word == b"DESC"
        elif word == b"ALPHA":
            plan.alpha = True
        elif word == b"LIMIT" and left >= 2:
            plan.start, plan.count = parse_int(argv[at + 1]), parse_int(argv[at + 2])
            at += 2
        elif word == b"STORE" and left >= 1 and may_store:
            at += 1
            plan.store = argv[at]
        elif word == b"BY" and left >= 1:
            at += 1
            plan.by = argv[at]
            if b"*" in argv[at]:
                not_in_cluster(client, "ERR BY option of SORT denied in Cluster mode.")
                _needs_every_key(client, argv, "BY")
            plan.keep_order = plan.keep_order or b"*" not in argv[at]
        elif word == b"GET" and left >= 1:
            not_in_cluster(client, "ERR GET option of SORT denied in Cluster mode.")
            _needs_every_key(client, argv, "GET")
            at += 1
            plan.gets.append(argv[at])
        else:
            raise syntax_error()
        at += 1
    return plan


def _needs_every_key(client: Client, argv: list[bytes], option: str) -> None:
    """What a pattern leads to is known only as it is read. Raises ReplyError: the user may not read all."""
    if client.gate & RESTRICTED:
        name = argv[0].lower().decode("latin-1")
        if not any(each.may_run(name, argv) and each.reads_every_key() for each in client.user.selectors):
            raise ReplyError(f"ERR {option} option of SORT denied due to insufficient ACL permissions.")


def find_sort_keys(argv: list[bytes]) -> list[bytes]:
    """The key, and the one after the last STORE."""
    store: list[bytes] = []
    at = 2
    while at < len(argv):
        word = argv[at].upper()
        if word == b"LIMIT":
            at += 2
        elif word == b"GET" or word == b"BY":
            at += 1
        elif word == b"STORE" and at + 1 < len(argv):
            at += 1
            store = [argv[at]]
        at += 1
    return argv[1:2] + store


def follow(client: Client, pattern: bytes, element: bytes) -> bytes | None:
    """What `pattern` leads to: a string, or with `->` the field of a hash, at the key made from the element."""
    if pattern == b"#":
        return element
    before, star, after = pattern.partition(b"*")
    if not star:
        return None
    after, arrow, field = after.partition(b"->")
    if arrow and not field:
        after, arrow = after + arrow, b""
    value = client.lookup(before + element + after)
    if arrow:
        return field_of(client, value, field) if isinstance(value, HashValue) else None
    return bytes(value) if isinstance(value, (bytes, bytearray)) else None


def score_of(text: bytes) -> float:
    """A weight as C strtod reads it; nothing at all weighs 0."""
    text = text.partition(b"\0")[0]
    return parse_float(text.lstrip(SPACES), NOT_A_SCORE) if text else 0.0


def elements_of(value: object) -> list[bytes]:
    """In the order that a value has by itself; a sorted set's is by score."""
    if value is None:
        return []
    if isinstance(value, ListValue):
        return value.slice(0, value.size())
    if isinstance(value, SetValue):
        return list(value.members)
    if isinstance(value, ZSetValue):
        return value.ranked().slice(0, value.size())
    raise wrong_type()


def sort_by_score(client: Client, elements: list[bytes], plan: Plan) -> list[bytes]:
    weighed: list[tuple[float, bytes]] = []
    for element in elements:
        weight = element if plan.by is None else follow(client, plan.by, element)
        weighed.append((0.0 if weight is None else score_of(weight), element))
    weighed.sort(reverse=plan.descending)
    return [element for _, element in weighed]


def sort_by_bytes(client: Client, elements: list[bytes], plan: Plan) -> list[bytes]:
    if plan.by is None:
        return sorted(elements, reverse=plan.descending)
    weighed: list[tuple[bool, bytes, int]] = []  # what leads to nothing comes first; equal ones keep their order
    for i, element in enumerate(elements):
        weight = follow(client, plan.by, element)
        weighed.append((weight is not None, weight or b"", -i if plan.descending else i))
    weighed.sort(reverse=plan.descending)
    return [elements[abs(i)] for _, _, i in weighed]


def run(client: Client, value: object, plan: Plan) -> list[bytes]:
    """The elements to return, before GET."""
    elements = elements_of(value)
    if plan.keep_order and isinstance(value, SetValue) and (plan.store is not None or client.is_script):
        elements.sort(reverse=plan.descending)  # it has none to keep, and what comes should not vary
    elif plan.keep_order:
        if plan.descending and not isinstance(value, SetValue):
            elements.reverse()
    elif plan.alpha:
        elements = sort_by_bytes(client, elements, plan)
    else:
        elements = sort_by_score(client, elements, plan)
    start = max(0, plan.start)
    return elements[start:] if plan.count < 0 else elements[start : start + plan.count]


def results(client: Client, elements: list[bytes], plan: Plan) -> list[bytes | None]:
    found: list[bytes | None] = []
    for element in elements:
        if plan.gets:
            for pattern in plan.gets:
                found.append(follow(client, pattern, element))
        else:
            found.append(element)
    return found


def reply_sorted(client: Client, found: list[bytes | None]) -> bytes:
    nothing = NULL3 if client.resp3 else NULL_BULK
    return array([nothing if item is None else bulk(item) for item in found])


@command(
    "SORT", arity=-2, flags="write denyoom movablekeys", keys=(1, 1, 1), find_keys=find_sort_keys, whole=True,
    acl="set sortedset list dangerous",
    complexity="O(N+M*log(M)) for N elements, M of them returned",
    summary="Sorts a list, set or sorted set, by its elements or by other keys, and returns or stores the result.",
)  # fmt: skip
def sort(client: Client, argv: list[bytes]) -> bytes:
    plan = parse_plan(client, argv, True)
    found = results(client, run(client, client.lookup_write(argv[1]), plan), plan)
    store = plan.store
    if store is None:
        return reply_sorted(client, found)
    if client.lookup_write(store) is not None:
        client.emit([b"DEL", store])
    if found:
        client.emit([b"RPUSH", store, *[b"" if item is None else item for item in found]])
    return integer(len(found))


@command(
    "SORT_RO", arity=-2, flags="readonly movablekeys", keys=(1, 1, 1), whole=True,
    acl="set sortedset list dangerous", since="7.0.0",
    complexity="O(N+M*log(M)) for N elements, M of them returned",
    summary="Sorts a list, set or sorted set, by its elements or by other keys, and returns the result.",
)  # fmt: skip
def sort_ro(client: Client, argv: list[bytes]) -> bytes:
    plan = parse_plan(client, argv, False)
    return reply_sorted(client, results(client, run(client, client.lookup(argv[1]), plan), plan))
