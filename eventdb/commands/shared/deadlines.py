"""Deadlines as options give them (EX, PX, EXAT, PXAT), as Unix milliseconds."""

from __future__ import annotations

from eventdb.engine.client import Client
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.numbers import INT64_MAX, parse_int


def deadline_of(client: Client, unit: bytes, text: bytes, name: str) -> int:
    """The Unix ms that `EX 10`, `PXAT …` mean; zero and less are errors, `name` is the command's for its text."""
    at_ms = parse_int(text)
    if at_ms <= 0 or (unit[:1] == b"E" and at_ms > INT64_MAX // 1000):
        raise invalid_expire_time(name)
    if unit[:1] == b"E":
        at_ms *= 1000
    if len(unit) == 2:
        at_ms += client.store.now_ms
        if at_ms > INT64_MAX:
            raise invalid_expire_time(name)
    return at_ms


def invalid_expire_time(name: str) -> ReplyError:
    return ReplyError(f"ERR invalid expire time in '{name}' command")
