"""EVENTDB.RESTORE: a moment of the past becomes the state of now, as one transaction that can be undone likewise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import server_command
from eventdb.keyspace.choice import Choice
from eventdb.keyspace.databases import DATABASES
from eventdb.protocol.errors import DB_OUT_OF_RANGE, ReplyError, syntax_error
from eventdb.protocol.numbers import parse_int
from eventdb.replay.cut import ToMark, ToOffset, ToTime

if TYPE_CHECKING:
    from eventdb.replay.cut import Wanted


@server_command(
    "EVENTDB.RESTORE", arity=-4, flags="write admin noscript no_multi", whole=True, since="7.0.0", group="server",
    complexity="O(N) beside the server, N events of the log; O(M) in it, M keys that differ",
    summary="Brings back all keys, or some, as they were at an offset, a time or a mark, in one transaction.",
)  # fmt: skip
def eventdb_restore(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    """EVENTDB.RESTORE TO OFFSET n | TO TIME ms | TO MARK name [DB n] [DRYRUN] [KEYS pattern [pattern ...]]

    Users, marks and outcomes of tokens stay as they are; functions too, unless all of the state is restored.
    """
    if client.blocked is not None:  # the second call: what to do is worked out
        return engine.host.restore(client, ToOffset(0), Choice(), False)
    to, choice, dry = parsed(argv)
    return engine.host.restore(client, to, choice, dry)


def parsed(argv: list[bytes]) -> tuple[Wanted, Choice, bool]:
    """Raises ReplyError."""
    if argv[1].upper() != b"TO":
        raise syntax_error()
    kind, place = argv[2].upper(), argv[3]
    to: Wanted
    if kind == b"OFFSET":
        to = ToOffset(parse_int(place))
    elif kind == b"TIME":
        to = ToTime(parse_int(place))
    elif kind == b"MARK":
        to = ToMark(place)
    else:
        raise syntax_error()
    db: int | None = None
    dry = False
    patterns: tuple[bytes, ...] = ()
    at = 4
    while at < len(argv):
        word = argv[at].upper()
        if word == b"DB" and at + 1 < len(argv):
            db = parse_int(argv[at + 1])
            if not 0 <= db < DATABASES:
                raise ReplyError(DB_OUT_OF_RANGE)
            at += 2
        elif word == b"DRYRUN":
            dry = True
            at += 1
        elif word == b"KEYS" and at + 1 < len(argv):
            patterns = tuple(argv[at + 1 :])
            at = len(argv)
        else:
            raise syntax_error()
    return to, Choice(patterns, db), dry
