"""INFO: the node in numbers. Source: redis src/commands/info.json. Its sections: shared/info_sections.py."""

from __future__ import annotations

from eventdb.commands.shared.info_sections import report
from eventdb.engine.client import Client
from eventdb.engine.engine import Engine
from eventdb.engine.registry import server_command
from eventdb.protocol.replies import verbatim


@server_command(
    "INFO", arity=-1, flags="loading stale", acl="dangerous", group="server",
    tips="nondeterministic_output request_policy:all_shards response_policy:special",
    summary="Tells how the node does, in sections.",
)  # fmt: skip
def info(engine: Engine, client: Client, argv: list[bytes]) -> bytes:
    return verbatim(report(engine, argv[1:]).encode(), client.resp3)
