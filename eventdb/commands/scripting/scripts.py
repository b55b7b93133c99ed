"""EVAL, EVALSHA and SCRIPT. Source: redis src/eval.c, src/commands/*.json (group scripting).

A script may read any key, declared or not, so its reply waits for every batch on its way (`whole`), as EXEC's does. Its
writes are the events of one transaction. Compiled scripts are this node's alone: after a failover EVALSHA answers
NOSCRIPT and clients send the source again, as they do after a restart.
"""

from __future__ import annotations

from typing import Final

from eventdb.commands.shared.scripts import EVALS, THAT_OF_THE_SCRIPT, check_count, keys_of, lua_of, stop_script
from eventdb.engine.atomic import run_script
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import command, container, server_command
from eventdb.protocol.errors import ReplyError
from eventdb.protocol.replies import OK, array, bulk, integer, lines

SHA_LENGTH: Final = 40
NO_SCRIPT: Final = "NOSCRIPT No matching script. Please use EVAL."
HELP: Final = """SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
DEBUG (YES|SYNC|NO)
    Not offered here.
EXISTS <sha1> [<sha1> ...]
    Tell of each digest whether its script is known.
FLUSH [ASYNC|SYNC]
    Forget every script.
KILL
    End the script that runs, unless it has written.
LOAD <script>
    Compile a script and keep it without running it.
SHOW <sha1>
    Print a script that is known.
HELP
    Print this help."""


def _eval(engine: Engine, client: Client, argv: list[bytes], read_only: bool) -> bytes:
    count = check_count(argv)
    lua = lua_of(engine)
    script = lua.load(argv[1])
    return run_script(engine, client, lambda: lua.run(client, script, argv, count, read_only), script.rules.atomic)


def _evalsha(engine: Engine, client: Client, argv: list[bytes], read_only: bool) -> bytes:
    if len(argv[1]) != SHA_LENGTH:  # before the rest, as Redis
        raise ReplyError(NO_SCRIPT)
    count = check_count(argv)
    lua = lua_of(engine)
    script = lua.scripts.get(argv[1]) or lua.scripts.get(argv[1].lower())
    if script is None:
        raise ReplyError(NO_SCRIPT)
    found = script
    return run_script(engine, client, lambda: lua.run(client, found, argv, count, read_only), found.rules.atomic)


@server_command(
    "EVAL", arity=-3, flags=EVALS, find_keys=keys_of, whole=True, acl="scripting", since="2.6.0", group="scripting",
    complexity=THAT_OF_THE_SCRIPT, summary="Runs a Lua script as one transaction",
)  # fmt: skip
def eval_(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _eval(engine, client, argv, False)


@server_command(
    "EVAL_RO", arity=-3, flags=f"readonly {EVALS}", find_keys=keys_of, whole=True, acl="scripting", since="7.0.0",
    group="scripting", complexity=THAT_OF_THE_SCRIPT, summary="Runs a Lua script that may not write",
)  # fmt: skip
def eval_ro(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _eval(engine, client, argv, True)


@server_command(
    "EVALSHA", arity=-3, flags=EVALS, find_keys=keys_of, whole=True, acl="scripting", since="2.6.0",
    group="scripting", complexity=THAT_OF_THE_SCRIPT, summary="Runs a Lua script that the server knows by its SHA-1",
)  # fmt: skip
def evalsha(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _evalsha(engine, client, argv, False)


@server_command(
    "EVALSHA_RO", arity=-3, flags=f"readonly {EVALS}", find_keys=keys_of, whole=True, acl="scripting", since="7.0.0",
    group="scripting", complexity=THAT_OF_THE_SCRIPT,
    summary="Runs a Lua script that the server knows by its SHA-1 and that may not write",
)  # fmt: skip
def evalsha_ro(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return _evalsha(engine, client, argv, True)


container("SCRIPT", since="2.6.0", group="scripting", summary="Keeps and forgets Lua scripts.")


@server_command(
    "SCRIPT LOAD", arity=3, flags="noscript stale", acl="scripting", since="2.6.0", group="scripting",
    complexity="O(N), N bytes of script", summary="Compiles a script and keeps it without running it",
    tips="request_policy:all_nodes response_policy:all_succeeded",
)  # fmt: skip
def script_load(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return bulk(lua_of(engine).load(argv[2]).sha)


@server_command(
    "SCRIPT EXISTS", arity=-3, flags="noscript", acl="scripting", since="2.6.0", group="scripting",
    complexity="O(N), N digests given", summary="Reports of each SHA-1 whether its script is known",
    tips="request_policy:all_shards response_policy:agg_logical_and",
)  # fmt: skip
def script_exists(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    known = lua_of(engine).scripts
    return array([integer(int(digest in known)) for digest in argv[2:]])


@server_command(
    "SCRIPT SHOW", arity=3, flags="noscript", acl="scripting", since="8.0.0", group="scripting",
    summary="Returns the source of a script that is known (Valkey 8)",
)  # fmt: skip
def script_show(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    known = lua_of(engine).scripts
    script = known.get(argv[2]) or known.get(argv[2].lower())
    if script is None:
        raise ReplyError(NO_SCRIPT)
    return bulk(script.source)


@server_command(
    "SCRIPT FLUSH", arity=-2, flags="noscript", acl="scripting", since="2.6.0", group="scripting",
    complexity="O(N), N scripts known", summary="Forgets every script",
    tips="request_policy:all_nodes response_policy:all_succeeded",
)  # fmt: skip
def script_flush(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() not in (b"ASYNC", b"SYNC")):
        raise ReplyError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    lua_of(engine).flush()
    return OK


@server_command(
    "SCRIPT KILL", arity=2, flags="noscript allow_busy", acl="scripting", since="2.6.0", group="scripting",
    summary="Ends the script that runs, unless it has written",
    tips="request_policy:all_shards response_policy:one_succeeded",
)  # fmt: skip
def script_kill(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return stop_script(engine, of_function=False)


@command(
    "SCRIPT DEBUG", arity=3, flags="noscript", acl="scripting", since="3.2.0", group="scripting",
    summary="Is refused: there is no debugger of scripts here",
)  # fmt: skip
def script_debug(client: Client, argv: list[bytes]) -> bytes:
    if argv[2].upper() == b"NO":
        return OK
    if argv[2].upper() in (b"YES", b"SYNC"):
        raise ReplyError("ERR eventdb has no debugger of scripts; redis-cli --ldb needs a Redis")
    raise ReplyError("ERR Use SCRIPT DEBUG YES/SYNC/NO")


@command(
    "SCRIPT HELP", arity=2, flags="loading stale", acl="scripting", since="5.0.0", group="scripting",
    summary="Lists the subcommands",
)  # fmt: skip
def script_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
