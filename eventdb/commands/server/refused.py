"""Commands of Redis that make no sense on a log: each answers an error that says what does the same here.

REPLICAOF stands in commands/cluster/replication.py.
"""

from __future__ import annotations

from typing import Final

from eventdb.engine.client import Client
from eventdb.engine.registry import command
from eventdb.protocol.errors import ReplyError

NO_MIGRATE: Final = (
    "ERR MIGRATE is not here: keys do not leave their log one by one. `eventdb restore` copies a log, DUMP and RESTORE"
    " a value"
)
NO_MODULES: Final = "ERR eventdb loads no modules: they are machine code for another server"


def keys_of_migrate(argv: list[bytes]) -> list[bytes]:
    if len(argv) > 3 and argv[3]:
        return argv[3:4]
    for at in range(6, len(argv)):
        if argv[at].upper() == b"KEYS":
            return argv[at + 1 :]
    return []


@command(
    "MIGRATE", arity=-6, flags="write movablekeys", keys=(3, 3, 1), find_keys=keys_of_migrate, acl="keyspace dangerous",
    since="2.6.0", summary="Refused: `eventdb restore` copies a log.", tips="nondeterministic_output",
)  # fmt: skip
def migrate(client: Client, argv: list[bytes]) -> bytes:
    raise ReplyError(NO_MIGRATE)


def no_modules(client: Client, argv: list[bytes]) -> bytes:
    raise ReplyError(NO_MODULES)


for _name, _arity, _since in (("LOAD", -3, "4.0.0"), ("LOADEX", -3, "7.0.0"), ("UNLOAD", 3, "4.0.0")):
    command(
        f"MODULE {_name}", arity=_arity, flags="admin noscript no_async_loading", since=_since, group="server",
        summary="Refused: eventdb loads no modules.",
    )(no_modules)  # fmt: skip
