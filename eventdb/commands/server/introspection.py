"""COMMAND: what the server can do, told from the registry.

Source: redis src/server.c (commandCommand and what follows), src/commands/command*.json.
"""

from __future__ import annotations

import json
from importlib.resources import files
from time import perf_counter
from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.command import Command
from eventdb.engine.engine import Engine
from eventdb.engine.keyspecs import KeySpec, keys_with_flags, specs_of
from eventdb.engine.registry import COMMANDS, command, find_subcommand, server_command
from eventdb.protocol.errors import ReplyError, syntax_error
from eventdb.protocol.glob import glob_match
from eventdb.protocol.replies import array, bulk, bulk_set, bulks, integer, lines, mapping, null, simple

LOADING: Final = "loading stale"
HELP: Final = """
COMMAND <subcommand> [<arg> ...]. Subcommands are:
(no subcommand)
    What INFO reports, of every command.
COUNT
    How many commands there are.
DOCS [<command-name> ...]
    Summary, group, version, complexity and arguments of these commands (default: all).
GETKEYS <full-command>
    The keys that this call names.
GETKEYSANDFLAGS <full-command>
    The keys that this call names, and how it uses them.
INFO [<command-name> ...]
    Arity, flags, keys and categories of these commands (default: all).
LIST [FILTERBY (MODULE <name> | ACLCAT <category> | PATTERN <pattern>)]
    Names of commands and subcommands.
HELP
    Print this help.
"""


def find(name: bytes) -> Command | None:
    """A command by its name, or a subcommand as "config|get"."""
    parent, bar, child = name.upper().partition(b"|")
    found = COMMANDS.get(parent)
    if found is not None and bar:
        return found.subcommands.get(child)
    return found


def _unordered(items: list[bytes], resp3: bool) -> bytes:
    """A set of encoded items; an array in RESP2."""
    encoded = array(items)
    return b"~" + encoded[1:] if resp3 else encoded


def _statuses(words: list[str], resp3: bool) -> bytes:
    """A set of simple strings."""
    return _unordered([simple(word.encode()) for word in words], resp3)


def _pairs(items: list[tuple[bytes, bytes]], resp3: bool) -> bytes:
    """A map whose keys are plain bulk strings and whose values are encoded."""
    flat: list[bytes] = []
    for key, value in items:
        flat += [bulk(key), value]
    return mapping(flat, resp3)


def _key_spec(spec: KeySpec, resp3: bool) -> bytes:
    a, b, c = spec.numbers
    begin, find_keys = b"unknown", b"unknown"
    begin_spec: list[tuple[bytes, bytes]] = []
    find_spec: list[tuple[bytes, bytes]] = []
    if spec.keyword:
        begin = b"keyword"
        begin_spec = [(b"keyword", bulk(spec.keyword.encode())), (b"startfrom", integer(spec.start_from))]
    elif spec.known:
        begin = b"index"
        begin_spec = [(b"index", integer(spec.index))]
    if spec.counted:
        find_keys = b"keynum"
        find_spec = [(b"keynumidx", integer(a)), (b"firstkey", integer(b)), (b"keystep", integer(c))]
    elif spec.known:
        find_keys = b"range"
        find_spec = [(b"lastkey", integer(a)), (b"keystep", integer(b)), (b"limit", integer(c))]
    note = [(b"notes", bulk(spec.note.encode()))] if spec.note else []
    return _pairs(
        [
            *note,
            (b"flags", _statuses(spec.flags, resp3)),
            (b"begin_search", _pairs([(b"type", bulk(begin)), (b"spec", _pairs(begin_spec, resp3))], resp3)),
            (b"find_keys", _pairs([(b"type", bulk(find_keys)), (b"spec", _pairs(find_spec, resp3))], resp3)),
        ],
        resp3,
    )


def describe(found: Command, resp3: bool) -> bytes:
    """One element of COMMAND INFO."""
    return array(
        [
            bulk(found.name.encode()),
            integer(found.arity),
            _statuses(found.flags, resp3),
            integer(found.first_key),
            integer(found.last_key),
            integer(found.key_step),
            _statuses(["@" + category for category in found.categories], resp3),
            bulk_set([tip.encode() for tip in found.tips], resp3),
            _unordered([_key_spec(spec, resp3) for spec in specs_of(found)], resp3),
            # Redis makes a set of subcommands only where there are none.
            _unordered([describe(each, resp3) for each in found.subcommands.values()], resp3 and not found.subcommands),
        ]
    )


Facts = dict[str, object]
_usage: dict[str, Facts] = {}


def usage() -> dict[str, Facts]:
    """arguments.json: what COMMAND DOCS reports of each command's arguments, and of one that another has replaced.

    In the names and order of Redis 7.0; tests/commands/test_command_facts.py compares them. Read when first asked for.
    """
    if not _usage:
        _usage.update(json.loads(files("eventdb.commands.server").joinpath("arguments.json").read_bytes()))
    return _usage


def _fact(key: str, value: object, resp3: bool) -> bytes:
    """One value of arguments.json. Source: redis src/server.c addReplyCommandArgList."""
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, str):
        return bulk(value.encode())
    assert isinstance(value, list)
    if key != "arguments":
        return _statuses(value, resp3)
    arguments: list[bytes] = []
    for each in value:
        arguments.append(_pairs([(name.encode(), _fact(name, fact, resp3)) for name, fact in each.items()], resp3))
    return array(arguments)


def document(found: Command, resp3: bool) -> bytes:
    """The value of one command in COMMAND DOCS."""
    items = [
        (b"summary", bulk(found.summary.encode())),
        (b"since", bulk(found.since.encode())),
        (b"group", bulk(found.group.encode())),
        (b"complexity", bulk(found.complexity.encode())),
    ]
    items += [(key.encode(), _fact(key, value, resp3)) for key, value in usage().get(found.name, {}).items()]
    if found.subcommands:
        children = [(child.name.encode(), document(child, resp3)) for child in found.subcommands.values()]
        items.append((b"subcommands", _pairs(children, resp3)))
    return _pairs(items, resp3)


@server_command(
    "COMMAND", arity=-1, flags=LOADING, acl="connection", since="2.8.13", group="server",
    complexity="O(N) where N is the number of commands", tips="nondeterministic_output_order",
    summary="Reports arity, flags, keys and categories of every command.",
)  # fmt: skip
def command_(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) == 1:
        return everything(client)
    own = COMMANDS[b"COMMAND"]  # the only command that is both: a command of its own and a container
    found = find_subcommand(own, argv)
    if isinstance(found, str):  # refused, as of any container: not a call of this one
        own.calls -= 1
        own.failed_calls -= 1
        engine.commands_run -= 1
        if (sub := own.subcommands.get(argv[1].upper())) is not None:
            sub.rejected_calls += 1
        raise ReplyError(found)
    client.last_command = found
    start = perf_counter()
    reply: bytes = found.handler(client, argv)  # type: ignore[misc]
    usec = (perf_counter() - start) * 1e6
    own.calls -= 1  # counted as the subcommand that it is
    own.usec -= usec
    found.calls += 1
    found.usec += usec
    return reply


def everything(client: Client) -> bytes:
    return array([describe(found, client.resp3) for found in COMMANDS.values()])


@command(
    "COMMAND INFO", arity=-2, flags=LOADING, acl="connection", since="2.8.13", group="server",
    complexity="O(N), N commands named", tips="nondeterministic_output_order",
    summary="Reports arity, flags, keys and categories of commands.",
)  # fmt: skip
def command_info(client: Client, argv: list[bytes]) -> bytes:
    resp3 = client.resp3
    if len(argv) == 2:
        return everything(client)
    found = [find(name) for name in argv[2:]]
    return array([null(resp3) if each is None else describe(each, resp3) for each in found])


@command(
    "COMMAND COUNT", arity=2, flags=LOADING, acl="connection", since="2.8.13", group="server",
    summary="Counts the commands.",
)  # fmt: skip
def command_count(client: Client, argv: list[bytes]) -> bytes:
    return integer(len(COMMANDS))


@command(
    "COMMAND DOCS", arity=-2, flags=LOADING, acl="connection", since="7.0.0", group="server",
    complexity="O(N), N commands named", tips="nondeterministic_output_order",
    summary="Reports what commands are for.",
)  # fmt: skip
def command_docs(client: Client, argv: list[bytes]) -> bytes:
    wanted: list[Command | None] = [find(name) for name in argv[2:]] if len(argv) > 2 else list(COMMANDS.values())
    found = [(each.name.encode(), document(each, client.resp3)) for each in wanted if each is not None]
    return _pairs(found, client.resp3)


def _matches(found: Command, kind: bytes, value: bytes) -> bool:
    if kind == b"PATTERN":
        return glob_match(value, found.name.encode(), True)
    return kind == b"ACLCAT" and value.lower().decode("utf-8", "surrogateescape") in found.categories


@command(
    "COMMAND LIST", arity=-2, flags=LOADING, acl="connection", since="7.0.0", group="server",
    complexity="O(N) where N is the number of commands", tips="nondeterministic_output_order",
    summary="Lists the names of commands.",
)  # fmt: skip
def command_list(client: Client, argv: list[bytes]) -> bytes:
    every: list[Command] = []
    for found in COMMANDS.values():
        every.append(found)
        every += found.subcommands.values()
    if len(argv) == 2:
        return bulks([found.name.encode() for found in every])
    if len(argv) != 5 or argv[2].upper() != b"FILTERBY":
        raise syntax_error()
    kind = argv[3].upper()
    if kind not in (b"MODULE", b"ACLCAT", b"PATTERN"):
        raise syntax_error()
    return bulks([found.name.encode() for found in every if _matches(found, kind, argv[4])])


def _keys_of(call: list[bytes]) -> list[tuple[bytes, list[str]]]:
    """The keys of a whole call and how it uses them. Raises ReplyError."""
    found = COMMANDS.get(call[0].upper())
    if found is not None and found.subcommands and found.handler is None:
        found = found.subcommands.get(call[1].upper()) if len(call) > 1 else None
    if found is None:
        raise ReplyError("ERR Invalid command specified")
    specs = specs_of(found)
    if not specs or "not_key" in specs[0].flags:
        raise ReplyError("ERR The command has no key arguments")
    n = len(call)
    if n != found.arity if found.arity >= 0 else n < -found.arity:
        raise ReplyError("ERR Invalid number of arguments specified for command")
    keys = keys_with_flags(found, call)
    if not keys and "no_mandatory_keys" in found.flags:
        return []
    if not keys:
        raise ReplyError("ERR Invalid arguments specified for command")
    return keys


@command(
    "COMMAND GETKEYS", arity=-4, flags=LOADING, acl="connection", since="2.8.13", group="server",
    complexity="O(N), N arguments", summary="Reports the keys that a call names.",
)  # fmt: skip
def command_getkeys(client: Client, argv: list[bytes]) -> bytes:
    return bulks([key for key, _ in _keys_of(argv[2:])])


@command(
    "COMMAND GETKEYSANDFLAGS", arity=-4, flags=LOADING, acl="connection", since="7.0.0", group="server",
    complexity="O(N), N arguments",
    summary="Reports the keys that a call names and how it uses them.",
)  # fmt: skip
def command_getkeysandflags(client: Client, argv: list[bytes]) -> bytes:
    found = _keys_of(argv[2:])
    return array([array([bulk(key), _statuses(flags, client.resp3)]) for key, flags in found])


@command(
    "COMMAND HELP", arity=2, flags=LOADING, acl="connection", since="5.0.0", group="server",
    summary="Explains COMMAND.",
)  # fmt: skip
def command_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
