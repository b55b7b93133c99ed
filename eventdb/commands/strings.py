"""Strings and counters. Source: redis src/t_string.c, src/commands/*.json (group string)."""

from __future__ import annotations

from eventdb.client import Client
from eventdb.registry import command
from eventdb.resp import NULL3, NULL_BULK, wrong_type


@command(
    "GET", arity=2, flags="readonly fast", keys=(1, 1, 1), acl="string", group="string",
    summary="Returns the string value of a key.",
)  # fmt: skip
def get(client: Client, argv: list[bytes]) -> bytes:
    value = client.lookup(argv[1])
    if value is None:
        return NULL3 if client.resp3 else NULL_BULK
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, bytearray):
        return b"$%d\r\n" % len(value) + value + b"\r\n"
    raise wrong_type()
