"""SLOWLOG, and COMMANDLOG of Valkey 8.1: the same log under its newer name, and two that are not kept here.

Of large requests and large replies nothing is written down: measuring every command would cost each of them. The
settings say so (commandlog-request-larger-than is -1), and their logs are empty.
Source: redis src/slowlog.c, src/commands/slowlog-*.json.
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, container, server_command
from eventdb.metrics.slowlog import SlowCommand
from eventdb.protocol.errors import ReplyError, wrong_subcommand
from eventdb.protocol.numbers import parse_int
from eventdb.protocol.replies import OK, array, bulk, bulks, integer, lines

ALL_NODES: Final = "request_policy:all_nodes response_policy:all_succeeded"
TYPES: Final = (b"slow", b"large-request", b"large-reply")
NO_COUNT: Final = "ERR count should be greater than or equal to -1"
SLOWLOG_HELP: Final = """
SLOWLOG <subcommand> [<arg> ...]. Subcommands are:
GET [<count>]
    The newest slow commands (default: 10; -1: all), each as
    id, Unix time, microseconds, arguments, client address, client name
LEN
    How many are kept.
RESET
    Forget them.
HELP
    Print this help.
"""
COMMANDLOG_HELP: Final = """
COMMANDLOG <subcommand> [<arg> ...]. Subcommands are:
GET <count> <type>
    The newest entries of a log: slow, large-request or large-reply; all with -1. Each is
    its number, the time, the value measured, the arguments, the client's address, its name.
LEN <type>
    How many entries a log has.
RESET <type>
    Forget the entries of a log.
HELP
    Print this help.
"""


container("SLOWLOG", since="2.2.12", summary="Reports which commands were slow.")


@server_command(
    "SLOWLOG GET", arity=-2, flags="admin loading stale", since="2.2.12", group="server",
    complexity="O(N) where N is the number of entries", tips="request_policy:all_nodes nondeterministic_output",
    summary="Reports the newest slow commands.",
)  # fmt: skip
def slowlog_get(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    return _newest(engine, _count(argv[2]) if len(argv) == 3 else 10)


def _count(text: bytes) -> int:
    count = parse_int(text, NO_COUNT)
    if count < -1:
        raise ReplyError(NO_COUNT)
    return count


def _newest(engine: Engine, count: int) -> bytes:
    entries = list(engine.accounting.slowlog.entries)
    return array([_slow(entry) for entry in (entries if count == -1 else entries[:count])])


def _slow(entry: SlowCommand) -> bytes:
    return array(
        [
            integer(entry.id),
            integer(entry.at),
            integer(entry.usec),
            bulks(entry.argv),
            bulk(entry.address.encode()),
            bulk(entry.name),
        ]
    )


@server_command(
    "SLOWLOG LEN", arity=2, flags="admin loading stale", since="2.2.12", group="server",
    tips="request_policy:all_nodes response_policy:agg_sum nondeterministic_output",
    summary="Counts the slow commands that are kept.",
)  # fmt: skip
def slowlog_len(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return integer(len(engine.accounting.slowlog.entries))


@server_command(
    "SLOWLOG RESET", arity=2, flags="admin loading stale", since="2.2.12", group="server", tips=ALL_NODES,
    complexity="O(N) where N is the number of entries", summary="Forgets the slow commands.",
)  # fmt: skip
def slowlog_reset(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    engine.accounting.slowlog.entries.clear()
    return OK


@command("SLOWLOG HELP", arity=2, flags="loading stale", since="6.2.0", group="server", summary="Explains SLOWLOG.")
def slowlog_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(SLOWLOG_HELP)


def _is_slow(name: bytes) -> bool:
    if name.lower() not in TYPES:
        raise ReplyError("ERR type should be one of the following: slow, large-request, large-reply")
    return name.lower() == TYPES[0]


container("COMMANDLOG", since="8.1.0", summary="Reports which commands were slow (Valkey 8.1).")


@server_command(
    "COMMANDLOG GET", arity=4, flags="admin loading stale", since="8.1.0", group="server",
    complexity="O(N) where N is the number of entries", tips="request_policy:all_nodes nondeterministic_output",
    summary="Reports the newest entries of a log of commands.",
)  # fmt: skip
def commandlog_get(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    count = _count(argv[2])
    return _newest(engine, count) if _is_slow(argv[3]) else array([])


@server_command(
    "COMMANDLOG LEN", arity=3, flags="admin loading stale", since="8.1.0", group="server",
    tips="request_policy:all_nodes response_policy:agg_sum nondeterministic_output",
    summary="Counts the entries of a log of commands.",
)  # fmt: skip
def commandlog_len(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return integer(len(engine.accounting.slowlog.entries) if _is_slow(argv[2]) else 0)


@server_command(
    "COMMANDLOG RESET", arity=3, flags="admin loading stale", since="8.1.0", group="server", tips=ALL_NODES,
    complexity="O(N) where N is the number of entries", summary="Forgets the entries of a log of commands.",
)  # fmt: skip
def commandlog_reset(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if _is_slow(argv[2]):
        engine.accounting.slowlog.entries.clear()
    return OK


@command(
    "COMMANDLOG HELP", arity=2, flags="loading stale", since="8.1.0", group="server", summary="Explains COMMANDLOG."
)
def commandlog_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(COMMANDLOG_HELP)
