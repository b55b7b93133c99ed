"""Who may do what on this node: the users, whom each client is, and the log of what was refused.

Users live in the log (keyspace/types/user.py) and are followed from there, or in a file (`aclfile`), which then is
the only place. A client whose user may do everything has no RESTRICTED bit in its gate and is never asked about here.
Source: redis src/acl.c.
"""

from __future__ import annotations

import os
import re
from collections import deque
from typing import TYPE_CHECKING, Final

from eventdb.engine.client import IN_MULTI, NEEDS_AUTH, RESTRICTED, Client
from eventdb.engine.client_line import describe
from eventdb.engine.command import NO_AUTH, Command
from eventdb.engine.command import WRITE as COMMAND_WRITES
from eventdb.engine.keyspecs import keys_with_flags
from eventdb.engine.registry import CATEGORIES, COMMANDS
from eventdb.engine.tokens import Tokens
from eventdb.security.acl import (
    ALLOWED,
    DENIED_AUTH,
    DENIED_CHANNEL,
    DENIED_COMMAND,
    DENIED_KEY,
    EVERYONE,
    READ,
    WRITE,
    AclError,
    Catalogue,
    User,
    default_user,
)

if TYPE_CHECKING:
    from eventdb.engine.settings import Config
    from eventdb.keyspace.databases import Keyspace

CHANNELS: Final = frozenset(("subscribe", "ssubscribe", "psubscribe"))  # every argument is one
MERGE_MS: Final = 60_000  # refusals that are alike and not further apart are one entry of the log
_REFUSED: Final = {
    DENIED_KEY: "NOPERM this user has no permissions to access one of the keys used as arguments",
    DENIED_CHANNEL: "NOPERM this user has no permissions to access one of the channels used as arguments",
}
SCRIPT_REFUSED: Final = {
    DENIED_COMMAND: "ERR The user executing the script can't run this command or subcommand",
    DENIED_KEY: "ERR The user executing the script can't access at least one of the keys mentioned in the command"
    " arguments",
    DENIED_CHANNEL: "ERR The user executing the script can't publish to the channel mentioned in the command",
}
_CHANGED: Final = (
    "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call."
    " This command is no longer allowed for the following reason: "
)
NO_DEBUG: Final = (
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local'
    " connection, otherwise you need to set this option in the configuration file, and then restart the server."
)
_PASSWORD: Final = re.compile(r"(modifier '[<>#!]).*(?=':)", re.DOTALL)  # in the text of an AclError
_WHY: Final = {
    DENIED_COMMAND: "no permission to execute the command or subcommand",
    DENIED_KEY: "no permission to touch the specified keys",
    DENIED_CHANNEL: "no permission to access one of the channels used as arguments",
}


def is_local(address: str) -> bool:
    return address == "" or address.startswith(("127.", "[::1]", "/"))


class Refusal:
    """One entry of ACL LOG; equal ones of a minute are counted."""

    def __init__(self, number: int, reason: int, context: str, what: bytes, user: bytes, who: str, now_ms: int) -> None:
        self.number = number
        self.reason = reason
        self.context = context
        self.what = what  # the command, key or channel that was refused
        self.user = user
        self.who = who  # the client, as in CLIENT LIST
        self.count = 1
        self.created_ms = now_ms
        self.updated_ms = now_ms


class Permissions:
    """The users of one node."""

    def __init__(self, config: Config, keyspace: Keyspace) -> None:
        self.config = config
        self.keyspace = keyspace
        self.catalogue = catalogue()
        self.tokens = Tokens(config)
        self.password = config.requirepass
        self.users: dict[bytes, User] = {b"default": default_user(self.catalogue, self.password)}
        self.version = keyspace.users_version
        self.rules: dict[bytes, bytes] = {}  # what `users` was made from, of those in the log
        self.log: deque[Refusal] = deque()  # the newest first
        self.next_refusal = 0
        self.refused: dict[int, int] = {
            DENIED_AUTH: 0,
            DENIED_COMMAND: 0,
            DENIED_KEY: 0,
            DENIED_CHANNEL: 0,
        }  # how often

    # -- clients

    def welcome(self, client: Client) -> None:
        """A new connection is the default user, if that needs no password."""
        user = self.users[b"default"]
        self.tokens.forget(client)
        self.become(client, user)
        if user.nopass and user.enabled:
            client.gate &= ~NEEDS_AUTH
        else:
            client.gate |= NEEDS_AUTH

    def become(self, client: Client, user: User) -> None:
        client.user = user
        if user.unrestricted:
            client.gate &= ~RESTRICTED
        else:
            client.gate |= RESTRICTED

    def admit(self, client: Client, name: bytes, password: bytes, how: bytes) -> bool:
        """Let the client in as this user, if the password or token is right; else keep the attempt in the log.

        Raises Pending: the verdict on a token takes a while.
        """
        user = self.users.get(name)
        by_token = user is not None and user.enabled and user.iam
        accepted = user is not None and (
            self.tokens.accepts(client, name, password) if by_token else user.accepts(password)
        )
        if user is None or not accepted:
            self._note(client, DENIED_AUTH, how, name)
            return False
        if not by_token:
            self.tokens.forget(client)
        self.become(client, user)
        client.gate &= ~NEEDS_AUTH
        return True

    def recognize(self, client: Client, names: list[str]) -> bool:
        """Let a client in as the user whom its certificate names, if there is one: the first of them that is on."""
        for name in names:
            user = self.users.get(name.encode("utf-8", "surrogateescape"))
            if user is not None and user.enabled:
                self.become(client, user)
                client.gate &= ~NEEDS_AUTH
                return True
        if names:
            self._note(client, DENIED_AUTH, b"tls-cert", names[0].encode("utf-8", "surrogateescape"))
        return False

    def embed(self, client: Client) -> None:
        """A session inside the program may do everything until it says AUTH."""
        self.become(client, EVERYONE)
        client.gate &= ~NEEDS_AUTH

    # -- verdicts

    def refusal(self, client: Client, command: Command, argv: list[bytes]) -> str:
        """Why the client's user may not run this, or ""; what is refused goes into the log."""
        verdict, what = self.judge(client.user, command, argv)
        if verdict == ALLOWED:
            return ""
        self._note(client, verdict, what, client.user.name)
        if verdict == DENIED_COMMAND:
            return f"NOPERM this user has no permissions to run the '{command.name}' command"
        return _REFUSED[verdict]

    def refusal_at_exec(self, client: Client, command: Command, argv: list[bytes]) -> str:
        """As `refusal`, of a command that was allowed when it was queued."""
        verdict, what = self.judge(client.user, command, argv)
        if verdict == ALLOWED:
            return ""
        self._note(client, verdict, what, client.user.name, "multi")
        return _CHANGED + _WHY[verdict]

    def refusal_in_script(self, client: Client, command: Command, argv: list[bytes]) -> str:
        """As `refusal`, of what a script calls in its caller's name."""
        verdict, what = self.judge(client.user, command, argv)
        if verdict == ALLOWED:
            return ""
        self._note(client, verdict, what, client.user.name, "lua")
        return SCRIPT_REFUSED[verdict].format(command.name)

    def judge(self, user: User, command: Command, argv: list[bytes]) -> tuple[int, bytes]:
        """The verdict on a call, and the command, key or channel that was denied."""
        if user.unrestricted:
            return ALLOWED, b""
        if command.bits & NO_AUTH:
            return ALLOWED, b""
        name = command.name
        keys = uses(command, argv) if command.has_keys else []
        channels: list[bytes] = []
        if name in CHANNELS:
            channels = argv[1:]
        elif name in ("publish", "spublish"):
            channels = argv[1:2]
        verdict, place = user.judge(name, argv, keys, channels, name == "psubscribe")
        if verdict == DENIED_KEY:
            return verdict, keys[place][0]
        if verdict == DENIED_CHANNEL:
            return verdict, channels[place]
        return verdict, name.encode()

    def _note(self, client: Client, reason: int, what: bytes, user: bytes, context: str = "") -> None:
        """Count a refusal and put it into the log."""
        self.refused[reason] += 1
        now_ms = client.store.now_ms
        if not context:
            context = "multi" if client.gate & IN_MULTI else "toplevel"
        who = describe(client).decode("utf-8", "replace")
        for entry in self.log:
            if (entry.reason, entry.context, entry.what, entry.user) == (reason, context, what, user):
                if now_ms - entry.updated_ms <= MERGE_MS:
                    entry.count += 1
                    entry.updated_ms, entry.who = now_ms, who
                    self.log.remove(entry)
                    self.log.appendleft(entry)
                    return
        self.log.appendleft(Refusal(self.next_refusal, reason, context, what, user, who, now_ms))
        self.next_refusal += 1
        self.trim_log()

    def may_debug(self, client: Client) -> bool:
        """The setting allows DEBUG for this connection."""
        allowed = self.config.debug_command
        return allowed == "yes" or (allowed == "local" and is_local(client.address))

    def reset_counts(self) -> None:
        self.refused = dict.fromkeys(self.refused, 0)

    def trim_log(self) -> None:
        while len(self.log) > self.config.acl_log_entries_max:
            self.log.pop()

    # -- changes

    def changed(self, name: bytes, rules: list[bytes]) -> User:
        """The user after these rules, new or not; nothing is changed yet. Raises AclError."""
        known = self.users.get(name)
        if known is None:
            made = User(name)
            made.selectors[0].all_channels = self._all_channels()
        else:
            made = known.copy()
        made.apply_all(rules, self.catalogue, self._all_channels())
        return made

    def _all_channels(self) -> bool:
        """What selectors begin with that are made from now on. The log has what came of it."""
        return self.config.acl_pubsub_default == "allchannels"

    def put(self, user: User, clients: dict[int, Client]) -> list[Client]:
        """Take a user's new rules, for its connections too; returns those that listen to what they may not."""
        self.users[user.name] = user
        lost: list[Client] = []
        for client in clients.values():
            if client.user.name == user.name and client.user is not EVERYONE:
                self.become(client, user)
                if not _may_listen(user, client):
                    lost.append(client)
        return lost

    def remove(self, name: bytes, clients: dict[int, Client]) -> list[Client]:
        """Forget a user; returns its connections."""
        self.users.pop(name, None)
        return [client for client in clients.values() if client.user.name == name and client.user is not EVERYONE]

    def follow(self, clients: dict[int, Client]) -> list[Client]:
        """Take over what the log has changed; returns the clients that have to go."""
        self.version = self.keyspace.users_version
        if self.config.acl_file:
            return []
        lost: list[Client] = []
        for name in list(self.rules):
            if name not in self.keyspace.users:
                del self.rules[name]
                if name == b"default":
                    lost += self.put(default_user(self.catalogue, self.password), clients)
                else:
                    lost += self.remove(name, clients)
        for name, rules in self.keyspace.users.items():
            if self.rules.get(name) != rules:
                self.rules[name] = rules
                lost += self.put(self.from_line(name, rules), clients)
        return lost

    def from_line(self, name: bytes, rules: bytes) -> User:
        """The user that `User.describe` described. Raises AclError."""
        made = User(name)
        made.apply_all(rules.split(), self.catalogue)
        return made

    def reconfigure(self, clients: dict[int, Client]) -> None:
        """Take over requirepass, if it was changed: it is the default user's password. And the length of the log."""
        self.trim_log()
        if self.config.requirepass == self.password:
            return
        self.password = self.config.requirepass
        rules = [b"resetpass", b">" + self.password] if self.password else [b"nopass"]
        self.put(self.changed(b"default", rules), clients)

    # -- the file

    def load_file(self, clients: dict[int, Client]) -> list[Client]:
        """Read the users of `aclfile`, all or none; returns the clients that have to go. Raises AclError, OSError."""
        path = self.config.acl_file
        found: dict[bytes, User] = {}
        problems: list[str] = []
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
        for number, line in enumerate(lines, 1):
            words = line.strip().split()
            if not words or words[0].startswith(b"#"):
                continue
            try:
                if words[0] != b"user" or len(words) < 2:
                    raise AclError("should start with user keyword")
                if words[1] in found:
                    raise AclError(f"Duplicate user '{words[1].decode('utf-8', 'replace')}' found")
                found[words[1]] = User(words[1])
                found[words[1]].selectors[0].all_channels = self._all_channels()
                found[words[1]].apply_all(words[2:], self.catalogue, self._all_channels())
            except AclError as failure:
                shown = _PASSWORD.sub(r"\1***", str(failure))
                problems.append(f"{path}:{number}: {shown}. ")
        if problems:
            raise AclError("".join(problems) + "WARNING: ACL errors detected, no change to the previously active ACL"
                           " rules was performed")  # fmt: skip
        found.setdefault(b"default", default_user(self.catalogue, self.password))
        lost: list[Client] = []
        for name in list(self.users):
            if name not in found:
                lost += self.remove(name, clients)
        for user in found.values():
            before = self.users.get(user.name)
            lost += self.put(user, clients)
            if before is not None and user.name != b"default" and before.describe() != user.describe():
                lost += [client for client in clients.values() if client.user is user]
        return list(dict.fromkeys(lost))

    def save_file(self) -> None:
        """Write the users to `aclfile`: beside it, synced, then in its place. Raises OSError."""
        path = self.config.acl_file
        beside = f"{path}.tmp-{os.getpid()}"
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                for line in self.lines():
                    file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            if os.path.exists(beside):
                os.unlink(beside)
            raise

    def lines(self) -> list[bytes]:
        """One for each user, in the order of their names (ACL LIST, the file)."""
        return [b"user %b %b" % (name, self.users[name].describe()) for name in sorted(self.users)]


def check_rules(name: bytes, rules: bytes) -> None:
    """Raises AclError for a line that makes no user."""
    User(name).apply_all(rules.split(), catalogue())


def catalogue() -> Catalogue:
    """What rules can name: every command that is registered."""
    categories: dict[str, list[str]] = {}
    subcommands: dict[str, list[str]] = {}
    for command in COMMANDS.values():
        categories[command.name] = command.categories
        if command.subcommands:
            subcommands[command.name] = [each.name for each in command.subcommands.values()]
            for each in command.subcommands.values():
                categories[each.name] = each.categories
    return Catalogue(categories, subcommands, CATEGORIES)


def uses(command: Command, argv: list[bytes]) -> list[tuple[bytes, int]]:
    """The keys of a call, each with READ and WRITE as it is used; a key that is only looked for has neither.

    Specs look for words and can be led astray (a consumer that is called STREAMS, a second STORE): then the handler
    uses a key that no spec finds, and Redis 7.0 lets it. So what the command itself names is judged too.
    """
    found: list[tuple[bytes, int]] = []
    for key, flags in keys_with_flags(command, argv) or []:
        use = READ if "access" in flags else 0
        if "insert" in flags or "update" in flags or "delete" in flags:
            use |= WRITE
        found.append((key, use))
    if command.find_keys is not None:
        most = READ | WRITE if command.bits & COMMAND_WRITES else READ
        unmatched = [key for key, _ in found]  # a key may stand twice, once to be read and once to be written
        for key in command.keys(argv):
            if key in unmatched:
                unmatched.remove(key)
            else:
                found.append((key, most))
    return found


def _may_listen(user: User, client: Client) -> bool:
    """False when it has a subscription that no selector of the user allows any more."""
    for names, literally in ((client.channels, False), (client.shards, False), (client.patterns, True)):
        for name in names:
            if not any(selector.may_hear(name, literally) for selector in user.selectors):
                return False
    return True
