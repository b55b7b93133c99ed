"""FUNCTION, FCALL and FCALL_RO. Source: redis src/functions.c, src/commands/function*.json, fcall*.json.

Libraries are in the log: a LIBRARY event carries the whole source, so a replica, a restart and a restore have them.
They name no key, so whatever depends on them waits for every batch on its way (`whole`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from eventdb.commands.shared.scripts import EVALS, THAT_OF_THE_SCRIPT, check_count, keys_of, lua_of, stop_script
from eventdb.engine.atomic import run_script
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, container, server_command
from eventdb.keyspace.databases import Keyspace
from eventdb.keyspace.types.library import LIBRARY
from eventdb.protocol.errors import ReplyError, shown, wrong_subcommand
from eventdb.protocol.glob import compile_glob
from eventdb.protocol.replies import OK, array, bulk, bulks, integer, lines, mapping, null, simple
from eventdb.rdb.functions import PayloadError, dump, load
from eventdb.scripting.watch import LOAD_S_MAX

if TYPE_CHECKING:
    from eventdb.scripting.functions import Function, Functions, Library

ALL_SHARDS: Final = "request_policy:all_shards response_policy:all_succeeded"

HELP: Final = """FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
LOAD [REPLACE] <FUNCTION CODE>
    Compile a library, and keep it and its functions.
DELETE <LIBRARY NAME>
    Delete a library.
FLUSH [ASYNC|SYNC]
    Delete every library.
LIST [LIBRARYNAME PATTERN] [WITHCODE]
    List libraries and their functions.
DUMP
    Return every library, serialized.
RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]
    Bring back what DUMP has returned, after deleting what is there (FLUSH), beside it (APPEND, unless a name is
    taken), or in place of libraries of the same name (REPLACE).
STATS
    Return the function that runs, and how many there are.
KILL
    End the function that runs, unless it has written.
HELP
    Print this help."""


def _fcall(engine: Engine, client: Client, argv: list[bytes], read_only: bool) -> bytes:
    lua = lua_of(engine)
    function = lua.functions.find(argv[1])
    if function is None:
        raise ReplyError("ERR Function not found")
    found, count = function, check_count(argv, "ERR Bad number of keys provided")
    return run_script(engine, client, lambda: lua.call(client, found, argv, count, read_only), found.rules.atomic)


@server_command(
    "FCALL", arity=-3, flags=EVALS, find_keys=keys_of, whole=True, acl="scripting", since="7.0.0", group="scripting",
    complexity=THAT_OF_THE_SCRIPT, summary="Calls a function as one transaction",
)  # fmt: skip
def fcall(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _fcall(engine, client, argv, False)


@server_command(
    "FCALL_RO", arity=-3, flags=f"readonly {EVALS}", find_keys=keys_of, whole=True, acl="scripting", since="7.0.0",
    group="scripting", complexity=THAT_OF_THE_SCRIPT, summary="Calls a function that may not write",
)  # fmt: skip
def fcall_ro(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _fcall(engine, client, argv, True)


container("FUNCTION", since="7.0.0", group="scripting", summary="Keeps libraries of Lua functions.")


@server_command(
    "FUNCTION LOAD", arity=-3, flags="write denyoom noscript", acl="scripting", since="7.0.0", group="scripting",
    complexity="O(N), N bytes of code", summary="Compiles a library and keeps it", tips=ALL_SHARDS,
)  # fmt: skip
def function_load(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    for option in argv[2:-1]:
        if option.upper() != b"REPLACE":
            raise ReplyError(f"ERR Unknown option given: {shown(option)}")
    functions = lua_of(engine).functions
    known = functions.libraries()
    name = functions.name_of(argv[-1])
    if name in known and len(argv) == 3:
        raise ReplyError(f"ERR Library '{name.decode()}' already exists")
    library = functions.compile(argv[-1], limit_s=LOAD_S_MAX)
    functions.check_names([library], known)
    _keep(client, functions, library)
    return bulk(name)


def _keep(client: Client, functions: Functions, library: Library) -> None:
    functions.keep(library)
    if client.store.keyspace.libraries.code.get(library.name) != library.source:
        client.emit([LIBRARY, b"SET", library.name, library.source])


@command(
    "FUNCTION DELETE", arity=3, flags="write noscript", acl="scripting", since="7.0.0", group="scripting",
    summary="Deletes a library", tips=ALL_SHARDS,
)  # fmt: skip
def function_delete(client: Client, argv: list[bytes]) -> bytes:
    if argv[2] not in client.store.keyspace.libraries.code:
        raise ReplyError("ERR Library not found")
    client.emit([LIBRARY, b"DELETE", argv[2]])
    return OK


@command(
    "FUNCTION FLUSH", arity=-2, flags="write noscript", acl="scripting", since="7.0.0", group="scripting",
    complexity="O(N), N libraries", summary="Deletes every library", tips=ALL_SHARDS,
)  # fmt: skip
def function_flush(client: Client, argv: list[bytes]) -> bytes:
    _at_most(argv, 3)
    if len(argv) == 3 and argv[2].upper() not in (b"SYNC", b"ASYNC"):
        raise ReplyError("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
    _flush(client)
    return OK


def _flush(client: Client) -> None:
    if client.store.keyspace.libraries.code:
        client.emit([LIBRARY, b"FLUSH"])


def _at_most(argv: list[bytes], count: int) -> None:
    if len(argv) > count:
        raise wrong_subcommand(argv)


@server_command(
    "FUNCTION LIST", arity=-2, flags="noscript", whole=True, acl="scripting", since="7.0.0", group="scripting",
    complexity="O(N), N functions", summary="Lists libraries and their functions", tips="nondeterministic_output_order",
)  # fmt: skip
def function_list(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    pattern: bytes | None = None
    with_code = False
    i = 2
    while i < len(argv):
        word = argv[i].upper()
        if word == b"WITHCODE" and not with_code:
            with_code = True
        elif word == b"LIBRARYNAME" and pattern is None:
            i += 1
            if i == len(argv):
                raise ReplyError("ERR library name argument was not given")
            pattern = argv[i]
        else:
            raise ReplyError(f"ERR Unknown argument {shown(argv[i])}")
        i += 1
    if not client.store.keyspace.libraries.code:
        return array([])
    matches = None if pattern is None else compile_glob(pattern, True).fullmatch
    libraries = lua_of(engine).functions.libraries()
    return array(
        [_library(one, client.resp3, with_code) for name, one in libraries.items() if matches is None or matches(name)]
    )


def _library(library: Library, resp3: bool, with_code: bool) -> bytes:
    functions = array([_function(each, resp3) for each in library.functions])
    items = [bulk(b"library_name"), bulk(library.name), bulk(b"engine"), bulk(b"LUA"), bulk(b"functions"), functions]
    if with_code:
        items += [bulk(b"library_code"), bulk(library.source)]
    return mapping(items, resp3)


def _function(function: Function, resp3: bool) -> bytes:
    description = null(resp3) if function.description is None else bulk(function.description)
    flags = array([simple(name.encode()) for name in function.rules.names])
    if resp3:
        flags = b"~" + flags[1:]
    items = [bulk(b"name"), bulk(function.name), bulk(b"description"), description, bulk(b"flags"), flags]
    return mapping(items, resp3)


@command(
    "FUNCTION DUMP", arity=2, flags="noscript", whole=True, acl="scripting", since="7.0.0", group="scripting",
    complexity="O(N), N bytes of code", summary="Returns every library, serialized",
)  # fmt: skip
def function_dump(client: Client, argv: list[bytes]) -> bytes:
    return bulk(dump(list(client.store.keyspace.libraries.code.values())))


@server_command(
    "FUNCTION RESTORE", arity=-3, flags="write denyoom noscript", acl="scripting", since="7.0.0", group="scripting",
    complexity="O(N), N bytes of code", summary="Brings back libraries that FUNCTION DUMP has returned",
    tips=ALL_SHARDS,
)  # fmt: skip
def function_restore(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    _at_most(argv, 4)
    policy = argv[3].upper() if len(argv) == 4 else b"APPEND"
    if policy not in (b"FLUSH", b"APPEND", b"REPLACE"):
        raise ReplyError("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
    functions = lua_of(engine).functions
    try:
        sources = load(argv[2])
    except PayloadError as failure:
        raise ReplyError(f"ERR {failure}") from None
    new: dict[bytes, Library] = {}
    for source in sources:
        if functions.name_of(source) in new:
            raise ReplyError(f"ERR Library '{functions.name_of(source).decode()}' already exists")
        library = functions.compile(source)
        new[library.name] = library
    known = {} if policy == b"FLUSH" else functions.libraries()
    for name in new:
        if policy == b"APPEND" and name in known:
            raise ReplyError(f"ERR Library {name.decode()} already exists")
    functions.check_names(list(new.values()), known)
    if policy == b"FLUSH":
        _flush(client)
    for library in new.values():
        _keep(client, functions, library)
    return OK


@server_command(
    "FUNCTION STATS", arity=2, flags="noscript allow_busy", whole=True, acl="scripting", since="7.0.0",
    group="scripting", summary="Returns the function that runs, and how many there are",
    tips="nondeterministic_output request_policy:all_shards response_policy:special",
)  # fmt: skip
def function_stats(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    busy = engine.busy
    if busy.answering and not busy.of_function:
        raise ReplyError(busy.text)
    resp3 = client.resp3
    running = null(resp3)
    if busy.answering:
        took_ms = int((time.monotonic() - busy.began) * 1000)
        items = [bulk(b"name"), bulk(busy.name), bulk(b"command"), bulks(busy.argv), bulk(b"duration_ms")]
        running = mapping([*items, integer(took_ms)], resp3)
    libraries, functions = counts(engine, client.store.keyspace)
    numbers = [bulk(b"libraries_count"), integer(libraries), bulk(b"functions_count"), integer(functions)]
    engines = mapping([bulk(b"LUA"), mapping(numbers, resp3)], resp3)
    return mapping([bulk(b"running_script"), running, bulk(b"engines"), engines], resp3)


def counts(engine: Engine, keyspace: Keyspace) -> tuple[int, int]:
    """(libraries, functions)."""
    if not keyspace.libraries.code:
        return 0, 0
    if engine.busy.answering:  # nothing may be compiled while a function runs, and nothing has changed since it began
        return lua_of(engine).functions.counts()
    lua_of(engine).functions.libraries()
    return lua_of(engine).functions.counts()


@server_command(
    "FUNCTION KILL", arity=2, flags="noscript allow_busy", acl="scripting", since="7.0.0", group="scripting",
    summary="Ends the function that runs, unless it has written",
    tips="request_policy:all_shards response_policy:one_succeeded",
)  # fmt: skip
def function_kill(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return stop_script(engine, of_function=True)


@command(
    "FUNCTION HELP", arity=2, flags="loading stale", acl="scripting", since="7.0.0", group="scripting",
    summary="Lists the subcommands",
)  # fmt: skip
def function_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
