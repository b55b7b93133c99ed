"""CONFIG: the settings of config.py over the wire. Source: redis src/config.c, src/commands/config*.json."""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.command import Command
from eventdb.engine.config_file import rewrite
from eventdb.engine.engine import Engine
from eventdb.engine.registry import COMMANDS, command, container, server_command
from eventdb.engine.setting import FIXED, Setting, SettingError
from eventdb.engine.settings import SETTINGS
from eventdb.engine.settings_of_redis import HIDDEN
from eventdb.metrics.statistics import Statistics
from eventdb.protocol.errors import ReplyError, shown, syntax_error
from eventdb.protocol.glob import glob_match
from eventdb.protocol.replies import OK, bulk, lines, mapping
from eventdb.security.tls import TlsError

ADMIN: Final = "admin noscript loading stale"
HELP: Final = """
CONFIG <subcommand> [<arg> ...]. Subcommands are:
GET <pattern> [<pattern> ...]
    Settings whose names match, and their values.
SET <name> <value> [<name> <value> ...]
    Change settings until the server stops: all of them or, on an error, none.
RESETSTAT
    Start the counters of INFO again.
REWRITE
    Write the settings into the file that the server was started with.
HELP
    Print this help.
"""

container("CONFIG", since="2.0.0", summary="Reports and changes settings.")


@server_command(
    "CONFIG GET", arity=-3, flags=ADMIN, since="2.0.0", group="server",
    complexity="O(N) when N is the number of patterns", summary="Reports the values of settings.",
)  # fmt: skip
def config_get(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    config = engine.config
    found: dict[bytes, bytes] = {}
    for pattern in argv[2:]:
        plain = pattern.decode("utf-8", "surrogateescape")
        if plain.lower() in SETTINGS:  # told under the name as it was spelled
            if pattern.lower() not in [name.lower() for name in found]:
                found[pattern] = _value(engine, client, plain.lower())
            continue
        for name in SETTINGS:
            if name not in HIDDEN and glob_match(pattern, name.encode(), True):
                found.setdefault(name.encode(), config.shown(name).encode("utf-8", "surrogateescape"))
    items: list[bytes] = []
    for name_, value in found.items():
        items += [bulk(name_), bulk(value)]
    return mapping(items, client.resp3)


def _value(engine: Engine, client: Client, name: str) -> bytes:
    return engine.config.shown(name).encode("utf-8", "surrogateescape")


def _failed(name: str, why: str) -> ReplyError:
    return ReplyError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


@server_command(
    "CONFIG SET", arity=-4, flags=ADMIN, since="2.0.0", group="server",
    complexity="O(N) when N is the number of settings", tips="request_policy:all_nodes response_policy:all_succeeded",
    summary="Changes settings until the server stops.",
)  # fmt: skip
def config_set(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if len(argv) % 2:
        raise syntax_error()
    words = [arg.decode("utf-8", "surrogateescape") for arg in argv]
    wanted = _settings(engine, argv, words)
    values: list[tuple[Setting, int | str]] = []
    for setting, text in wanted:
        try:
            values.append((setting, engine.config.checked(setting, text)))
        except SettingError as failure:
            raise _failed(setting.name, str(failure)) from None
    try:
        tls = engine.config.check_tls(values)
    except TlsError as trouble:
        raise _failed(trouble.name, trouble.why) from None
    engine.config.change(values)
    if tls is not None:
        engine.config.tls.take_over(tls)
    engine.reconfigure()
    return OK


def _settings(engine: Engine, argv: list[bytes], words: list[str]) -> list[tuple[Setting, str]]:
    """The settings that CONFIG SET names and can change, each once; their names are checked before any value.

    One that is chosen at the start may be set to the value it has, which tools that restore settings do.
    """
    wanted: list[tuple[Setting, str]] = []
    seen: set[str] = set()
    for i in range(2, len(words), 2):
        setting = SETTINGS.get(words[i].lower())
        if setting is None:
            raise ReplyError(f"ERR Unknown option or number of arguments for CONFIG SET - '{shown(argv[i])}'")
        as_it_is = (engine.config.get(setting.name), engine.config.shown(setting.name))
        if setting.change == FIXED and words[i + 1] not in as_it_is:
            raise _failed(words[i], "can't set immutable config")
        if setting.name in seen:
            raise _failed(words[i], "duplicate parameter")
        seen.add(setting.name)
        if setting.change != FIXED:
            wanted.append((setting, words[i + 1]))
    return wanted


@server_command(
    "CONFIG RESETSTAT", arity=2, flags=ADMIN, since="2.0.0", group="server",
    summary="Starts the counters of INFO again.",
)  # fmt: skip
def config_resetstat(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    store = engine.store
    store.reset_counts()
    engine.commands_run = engine.connections_received = 0
    engine.bytes_in = engine.turn.bytes_out = engine.reads = engine.turn.writes = 0
    engine.statistics = Statistics()
    engine.permissions.reset_counts()
    engine.eviction.reset_counts()
    engine.accounting.latencies.histograms = {}
    for each in COMMANDS.values():
        _reset(each)
        for child in each.subcommands.values():
            _reset(child)
    return OK


def _reset(each: Command) -> None:
    each.calls = each.failed_calls = each.rejected_calls = 0
    each.usec = 0.0


@server_command(
    "CONFIG REWRITE", arity=2, flags=ADMIN, since="2.8.0", group="server",
    summary="Writes settings into the configuration file that the server was started with.",
)  # fmt: skip
def config_rewrite(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    if not engine.config.file:
        raise ReplyError("ERR The server is running without a config file")
    try:
        rewrite(engine.config)
    except OSError as failure:
        raise ReplyError(f"ERR Rewriting config file: {failure.strerror}") from None
    except ValueError as refusal:
        raise ReplyError(f"ERR Rewriting config file: {refusal}") from None
    return OK


@command("CONFIG HELP", arity=2, flags="loading stale", since="5.0.0", group="server", summary="Explains CONFIG.")
def config_help(client: Client, argv: list[bytes]) -> bytes:
    return lines(HELP)
