"""What every command is held to: nobody sees what could still be lost.

A reply waits for the batches that changed a key which the command names, or for all of them if it is `whole`. So the
keys that a handler reads must be keys that it names, the keys that it changes must be keys of its events, and what
emits must be a write by its flags. Asked of the registry, with a keyspace that notes every look.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from eventdb import commands
from eventdb.engine import engine as engine_module
from eventdb.engine.command import WHOLE, WRITE, Command
from eventdb.engine.registry import COMMANDS, find_subcommand
from eventdb.engine.settings import Config
from eventdb.keyspace.events import EVENTS, touched_keys
from tests.kit.calls import UNASKED, calls, filled
from tests.kit.harness import Local

commands.load()
COMPILED = not str(engine_module.__file__).endswith(".py")
EVERY = b"every key"


class Noting(dict[bytes, object]):
    """The values of a database; `read` and `written` note the keys that were looked at and changed."""

    def __init__(self, values: dict[bytes, object], read: set[bytes], written: set[bytes]) -> None:
        super().__init__(values)
        self.read, self.written = read, written

    def get(self, key: bytes, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __getitem__(self, key: bytes) -> object:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, bytes)
        self.read.add(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[bytes]:
        self.read.add(EVERY)
        return super().__iter__()

    def items(self) -> Any:
        self.read.add(EVERY)
        return super().items()

    def keys(self) -> Any:
        self.read.add(EVERY)
        return super().keys()

    def values(self) -> Any:
        self.read.add(EVERY)
        return super().values()

    def __setitem__(self, key: bytes, value: object) -> None:
        self.written.add(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: bytes) -> None:
        self.written.add(key)
        super().__delitem__(key)

    def pop(self, key: bytes, *default: Any) -> Any:
        self.written.add(key)
        return super().pop(key, *default)

    def clear(self) -> None:
        self.written.add(EVERY)
        super().clear()


def command_of(argv: list[bytes]) -> Command:
    command = COMMANDS[argv[0]]
    if command.handler is None:
        found = find_subcommand(command, argv)
        assert not isinstance(found, str), found
        return found
    return command


def emitted_keys(events: list[list[bytes]]) -> set[bytes]:
    found: set[bytes] = set()
    for event in events:
        if event[0] == b"SELECT":
            continue
        keys = touched_keys(event, EVENTS[event[0]].keys)
        found |= {EVERY} if keys is None else set(keys)
    return found


def test_every_command_has_a_call() -> None:
    asked = {command_of([word.encode() for word in call]).name for call in calls()}
    every = [command for command in COMMANDS.values() if command.handler is not None]
    every += [each for command in COMMANDS.values() for each in command.subcommands.values()]
    missing = [c.name for c in every if c.name not in asked and not c.name.upper().startswith(UNASKED)]
    assert not missing, f"tests/kit/calls.py has no call of {missing}"


@pytest.mark.skipif(COMPILED, reason="compiled code looks into a dict without asking it")
@pytest.mark.parametrize("call", calls(), ids=" ".join)
def test_keys_read_are_named_and_keys_written_are_in_the_events(call: list[str]) -> None:
    argv = [word.encode() for word in call]
    command = command_of(argv)
    config = Config()
    config.set("cluster-enabled", "yes" if call[0] == "CLUSTER" else "no")
    local = filled(Local(config=config))
    read: set[bytes] = set()
    written: set[bytes] = set()
    for db in local.engine.store.keyspace.dbs:
        db.values = Noting(db.values, read, written)
    before = len(local.events())
    reply = local.raw(*argv)
    assert not reply.startswith((b"-ERR wrong number", b"-ERR unknown", b"-ERR internal", b"-ERR syntax")), reply
    events = local.events()[before:]
    named = set(command.keys(argv))
    if not command.bits & (WHOLE | WRITE):
        assert read <= named, f"it reads {read - named} and does not name them"
    if command.bits & WRITE and not command.bits & WHOLE:
        assert read - {EVERY} <= named | emitted_keys(events), f"it reads {read - named} and does not name them"
    emitted = emitted_keys(events)
    assert EVERY in emitted or written <= emitted, f"it changes {written - emitted} without an event on them"
    assert not events or command.bits & WRITE, "it emits, and is no write by its flags"
    decoded = hiredis.Reader()
    decoded.feed(reply)
    decoded.gets()
