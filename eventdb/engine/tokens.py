"""Users that log in with tokens: the provider that the settings name, the log line of a refusal, the end of a session.

A connection that came in with a token ends `iam-session-seconds` after it, unless it authenticated again: a token is
good for minutes, and what it let in must not stay for ever. Nothing of this is looked at by a command.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from eventdb.metrics.rare_line import RareLine
from eventdb.security.iam import Iam, Keys, Provider, Refused
from eventdb.security.key_stores import KeyCommand, KeyFile

if TYPE_CHECKING:
    from eventdb.engine.client import Client
    from eventdb.engine.settings import Config

logger: Final = logging.getLogger("eventdb")

SAY_S: Final = 1.0  # between two lines about refused tokens
UNSET: Final = "this node takes no tokens: set iam-cluster-name, and iam-key-file or iam-key-command"


class Tokens:
    """Of one node."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sessions: dict[Client, float] = {}  # the end of each, monotonic seconds
        self.provider: Provider | None = None
        self._made_of: tuple[str, ...] = ()
        self._refusals = RareLine(SAY_S)

    def reconfigure(self) -> None:
        """Take over what the settings name."""
        config = self.config
        asked = (config.iam_cluster_name, config.iam_region, config.iam_key_file, config.iam_key_command)
        if asked == self._made_of:
            return
        self._made_of = asked
        keys: Keys | None = None
        if config.iam_key_command:
            keys = KeyCommand(config.iam_key_command)
        elif config.iam_key_file:
            keys = KeyFile(config.iam_key_file)
        whole = config.iam_cluster_name and keys is not None
        self.provider = Iam(config.iam_cluster_name, keys, config.iam_region) if whole and keys is not None else None

    def accepts(self, client: Client, name: bytes, token: bytes) -> bool:
        """Whether the token lets the client in as this user; the log says why not. Raises Pending."""
        self.reconfigure()
        try:
            if self.provider is None:
                raise Refused(UNSET)
            self.provider.verify(name.decode(), token.decode("ascii"), client.store.now_ms / 1000)
        except UnicodeDecodeError:
            self._say(client, name, "it is no text")
            return False
        except Refused as refused:
            self._say(client, name, str(refused))
            return False
        self.sessions.pop(client, None)
        self.sessions[client] = time.monotonic() + self.config.iam_session_seconds
        return True

    def forget(self, client: Client) -> None:
        """It is another user now, or gone."""
        self.sessions.pop(client, None)

    def ended(self) -> list[Client]:
        """The clients whose sessions have ended; each is named once."""
        now = time.monotonic()
        found = [client for client, end in self.sessions.items() if end <= now]
        for client in found:
            del self.sessions[client]
            logger.info(
                "closed %s: its session of user %r has ended", client.address, client.user.name.decode(errors="replace")
            )
        return found

    def _say(self, client: Client, name: bytes, why: str) -> None:
        user = name[:64].decode("utf-8", "replace")
        self._refusals.say(f"a token of {client.address} for the user {user!r} was refused: {why}")
