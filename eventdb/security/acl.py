"""Users and their rules: what ACL SETUSER says, and whether a user may run a command.

A user has one or more selectors; a command may run if one of them allows all of it: the command, every key that it
names for what it does with the key, every channel. Rules are kept in the order in which they were given, so that
`describe` gives them back as a line that builds the same user anew: that line is what the log and the ACL file carry.
Source: redis src/acl.c (texts of 7.0; the order of rules as 7.2 keeps it).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from eventdb.protocol.glob import glob_match

# What a key is used for.
READ: Final = 1
WRITE: Final = 2
READ_WRITE: Final = 3

PLAIN: Final = re.compile(rb"[^*?[\\]*\*")  # a beginning of keys, and any end

# Verdicts, the later ones nearer to being allowed.
ALLOWED: Final = 0
DENIED_COMMAND: Final = 1
DENIED_KEY: Final = 2
DENIED_CHANNEL: Final = 3
REASONS: Final = ("", "command", "key", "channel", "auth")
DENIED_AUTH: Final = 4

HASH_DIGITS: Final = 64  # of a password's SHA-256
_UNKNOWN: Final = "Unknown command or category name in ACL"
_SYNTAX: Final = "Syntax error"
_BAD_HASH: Final = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
_NEEDLESS: Final = (
    "Adding a pattern after the * pattern (or the 'all{0}' flag) is not valid and does not have any effect."
    " Try 'reset{0}' to start with an empty list of {1}"
)


class AclError(ValueError):
    """A rule that makes no sense; the text is what Redis says after the rule."""


class Catalogue:
    """The commands that rules can name: their categories and subcommands, by lower-case name ("config|get")."""

    def __init__(self, categories: dict[str, list[str]], subcommands: dict[str, list[str]], order: list[str]) -> None:
        self.categories = categories  # of each command and subcommand
        self.subcommands = subcommands  # full names, of each command that has some
        self.order = order  # every category, in the order in which ACL CAT lists them

    def members(self, category: str) -> list[str]:
        """The commands and subcommands of a category. Raises AclError."""
        if category not in self.order:
            raise AclError(_UNKNOWN)
        return [name for name, categories in self.categories.items() if category in categories]


class Selector:
    """One set of permissions. Denied is what no rule allows."""

    def __init__(self, all_channels: bool = False) -> None:
        self.all_commands = False  # those of later versions too
        self.all_keys = False
        self.all_channels = all_channels
        self.from_all = False  # the rules begin with +@all, else with -@all
        self.commands: set[str] = set()
        self.first_args: dict[str, list[bytes]] = {}  # of commands that are not allowed as a whole
        self.rules: list[str] = []  # that made `commands`, in order
        self.keys: list[tuple[bytes, int]] = []
        self.channels: list[bytes] = []

    def copy(self) -> Selector:
        made = Selector()
        made.all_commands, made.all_keys, made.all_channels = self.all_commands, self.all_keys, self.all_channels
        made.from_all, made.commands = self.from_all, set(self.commands)
        made.first_args = {name: list(args) for name, args in self.first_args.items()}
        made.rules, made.keys, made.channels = list(self.rules), list(self.keys), list(self.channels)
        return made

    # -- verdicts

    def may_run(self, name: str, argv: list[bytes]) -> bool:
        if name in self.commands:
            return True
        allowed = self.first_args.get(name)
        return allowed is not None and len(argv) > 1 and argv[1].lower() in allowed

    def may_use(self, key: bytes, use: int) -> bool:
        """use: READ, WRITE, both, or 0 for a command that only asks whether the key is there."""
        if self.all_keys:
            return True
        return any(use & allowed == use and glob_match(pattern, key) for pattern, allowed in self.keys)

    def prefixes(self) -> tuple[bytes, ...]:
        """What keys begin with that it may read and write, of patterns as plain as `app:*`; `may_use` knows all."""
        if self.all_keys:
            return (b"",)
        free = [pattern for pattern, allowed in self.keys if allowed == READ_WRITE]
        return tuple(pattern[:-1] for pattern in free if PLAIN.fullmatch(pattern))

    def reads_every_key(self) -> bool:
        """For SORT's BY and GET, which find their keys while they run."""
        return self.all_keys or any(pattern == b"*" and allowed & READ for pattern, allowed in self.keys)

    def may_hear(self, channel: bytes, literally: bool) -> bool:
        """literally: `channel` is itself a pattern (PSUBSCRIBE), which only the same pattern allows."""
        if self.all_channels:
            return True
        return any(pattern == channel if literally else glob_match(pattern, channel) for pattern in self.channels)

    @property
    def unrestricted(self) -> bool:
        return self.all_commands and self.all_keys and self.all_channels

    # -- rules

    def apply(self, rule: bytes, catalogue: Catalogue) -> None:
        """Change the selector by one rule. Raises AclError."""
        word = rule.lower()
        if word in (b"allkeys", b"~*"):
            self.all_keys, self.keys = True, []
        elif word == b"resetkeys":
            self.all_keys, self.keys = False, []
        elif word in (b"allchannels", b"&*"):
            self.all_channels, self.channels = True, []
        elif word == b"resetchannels":
            self.all_channels, self.channels = False, []
        elif word in (b"allcommands", b"+@all"):
            self._all_commands(catalogue)
        elif word in (b"nocommands", b"-@all"):
            self._no_commands()
        elif rule[:1] == b"~":
            self._add_key(rule[1:], READ_WRITE)
        elif rule[:1] == b"%":
            self._add_marked_key(rule)
        elif rule[:1] == b"&":
            self._add_channel(rule[1:])
        elif rule[:1] in (b"+", b"-"):
            self._change_commands(rule, catalogue)
        else:
            raise AclError(_SYNTAX)

    def _all_commands(self, catalogue: Catalogue) -> None:
        self.all_commands = self.from_all = True
        self.commands = set(catalogue.categories)
        self.first_args, self.rules = {}, []

    def _no_commands(self) -> None:
        self.all_commands = self.from_all = False
        self.commands, self.first_args, self.rules = set(), {}, []

    def _add_marked_key(self, rule: bytes) -> None:
        """%R~pattern, %W~pattern, %RW~pattern."""
        marks, tilde, pattern = rule[1:].partition(b"~")
        use = 0
        for mark in marks.upper():
            if mark == 82:
                use |= READ
            elif mark == 87:
                use |= WRITE
            else:
                raise AclError(_SYNTAX)
        if not tilde or not use:
            raise AclError(_SYNTAX)
        if pattern == b"*" and use == READ_WRITE:
            self.all_keys, self.keys = True, []
        else:
            self._add_key(pattern, use)

    def _add_key(self, pattern: bytes, use: int) -> None:
        if self.all_keys:
            raise AclError(_NEEDLESS.format("keys", "patterns"))
        _refuse_blanks(pattern)
        for i, (known, allowed) in enumerate(self.keys):
            if known == pattern:
                if pattern == b"*" and allowed | use == READ_WRITE:  # it reads ~*, after which no pattern may stand
                    self.all_keys, self.keys = True, []
                else:
                    self.keys[i] = (pattern, allowed | use)
                return
        self.keys.append((pattern, use))

    def _add_channel(self, pattern: bytes) -> None:
        if self.all_channels:
            raise AclError(_NEEDLESS.format("channels", "channels"))
        _refuse_blanks(pattern)
        if pattern not in self.channels:
            self.channels.append(pattern)

    def _change_commands(self, rule: bytes, catalogue: Catalogue) -> None:
        """+name, -name, with a subcommand or category, or (+ only) with a first argument."""
        allow = rule[:1] == b"+"
        name = rule[1:].decode("latin-1").lower()
        if name.startswith("@"):
            names = catalogue.members(name[1:])
        elif name in catalogue.categories:
            names = [name, *catalogue.subcommands.get(name, [])]
        else:
            self._allow_first_argument(name, allow, catalogue)
            return
        for each in names:
            if allow:
                self.commands.add(each)
            else:
                self.commands.discard(each)
            self.first_args.pop(each, None)
        self.all_commands = self.all_commands and allow
        self._note(name, allow)

    def _allow_first_argument(self, name: str, allow: bool, catalogue: Catalogue) -> None:
        command, bar, argument = name.rpartition("|")
        if not bar or command not in catalogue.categories or not allow:
            raise AclError(_UNKNOWN)
        if "|" in command:
            raise AclError("Allowing first-arg of a subcommand is not supported")
        first = argument.encode("latin-1")
        if first.split() != [first]:  # with white space in it, a line of rules could not be read back
            raise AclError(_SYNTAX)
        if catalogue.subcommands.get(command):
            raise AclError(_UNKNOWN)
        arguments = self.first_args.setdefault(command, [])
        if first not in arguments:
            arguments.append(first)
        self._note(name, allow)

    def _note(self, name: str, allow: bool) -> None:
        """Keep the rule; earlier ones that it makes needless go, those on a command's parts with it."""
        self.rules = [rule for rule in self.rules if rule[1:] != name and not rule[1:].startswith(name + "|")]
        self.rules.append(("+" if allow else "-") + name)

    # -- as text

    def describe_commands(self) -> str:
        return " ".join(["+@all" if self.from_all else "-@all", *self.rules])

    def describe_keys(self) -> bytes:
        if self.all_keys:
            return b"~*"
        marks = {READ: b"%R~", WRITE: b"%W~", READ_WRITE: b"~"}
        return b" ".join([marks[use] + pattern for pattern, use in self.keys])

    def describe_channels(self) -> bytes:
        if self.all_channels:
            return b"&*"
        return b" ".join([b"&" + pattern for pattern in self.channels])

    def describe(self) -> bytes:
        """The rules that make this selector out of an empty one."""
        parts = [
            self.describe_keys(),
            b"" if self.all_channels else b"resetchannels",
            self.describe_channels(),
            self.describe_commands().encode("latin-1"),
        ]
        return b" ".join([part for part in parts if part])


class User:
    """A user: whether it may log in and how, and its selectors, of which the first is its own."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.enabled = False
        self.nopass = False
        self.iam = False  # it logs in with tokens (security/iam.py), and with nothing else
        self.sanitizes = 0  # 1: sanitize-payload, -1: skip-sanitize-payload; kept and shown, both mean the same here
        self.hashes: list[bytes] = []  # SHA-256 of each password, in hexadecimal digits
        self.selectors: list[Selector] = [Selector()]
        # Of plain_run.c's commands those it may run on keys with these beginnings; made when it first runs one. A user
        # whose rules change is another one.
        self.plain: tuple[bytes, tuple[bytes, ...]] | None = None

    def copy(self) -> User:
        made = User(self.name)
        made.enabled, made.nopass, made.sanitizes = self.enabled, self.nopass, self.sanitizes
        made.iam, made.hashes = self.iam, list(self.hashes)
        made.selectors = [selector.copy() for selector in self.selectors]
        return made

    @property
    def unrestricted(self) -> bool:
        """It may run everything: nothing has to be looked at."""
        return any(selector.unrestricted for selector in self.selectors)

    def reads_every_key(self) -> bool:
        """For what is made of keys that nobody names."""
        return any(selector.reads_every_key() for selector in self.selectors)

    def accepts(self, password: bytes) -> bool:
        """True when it may log in with this password. Takes the same time for every wrong one."""
        if not self.enabled or self.iam:
            return False
        if self.nopass:
            return True
        digest = hash_password(password)
        found = False
        for known in self.hashes:
            found = hmac.compare_digest(known, digest) or found
        return found

    # -- rules

    def apply_all(self, rules: list[bytes], catalogue: Catalogue, all_channels: bool = False) -> None:
        """Change the user by each rule in turn; all_channels: what a new selector may hear (acl-pubsub-default).

        Raises AclError; then some rules have taken effect: use a copy.
        """
        for rule in merged(rules):
            if not rule:
                continue
            try:
                self._apply(rule, catalogue, all_channels)
            except AclError as failure:
                shown = rule.split(b"\0")[0].decode("utf-8", "surrogateescape")
                raise AclError(f"Error in ACL SETUSER modifier '{shown}': {failure}") from None

    def _apply(self, rule: bytes, catalogue: Catalogue, all_channels: bool) -> None:
        word = rule.lower()
        if word in (b"on", b"off"):
            self.enabled = word == b"on"
        elif word in (b"nopass", b"resetpass", b"iam"):
            self.nopass, self.iam, self.hashes = word == b"nopass", word == b"iam", []
        elif word in (b"sanitize-payload", b"skip-sanitize-payload"):
            self.sanitizes = 1 if word == b"sanitize-payload" else -1
        elif word == b"clearselectors":
            del self.selectors[1:]
        elif word == b"reset":
            self.enabled = self.nopass = self.iam = False
            self.sanitizes, self.hashes, self.selectors = 1, [], [Selector(all_channels)]
        elif rule[:1] in (b">", b"#", b"<", b"!"):
            self._change_passwords(rule)
        elif rule[:1] == b"(" and rule[-1:] == b")":
            made = Selector(all_channels)
            for part in rule[1:-1].split():
                if part[-1:] == b")":  # written into a line of rules it would end the selector (Redis takes it)
                    raise AclError(_SYNTAX)
                made.apply(part, catalogue)
            self.selectors.append(made)
        else:
            self.selectors[0].apply(rule, catalogue)

    def _change_passwords(self, rule: bytes) -> None:
        """>password and #hash add one, <password and !hash take one away."""
        digest = rule[1:]
        if rule[:1] in (b">", b"<"):
            digest = hash_password(digest)
        elif len(digest) != HASH_DIGITS or digest.strip(b"0123456789abcdef"):
            raise AclError(_BAD_HASH)
        if rule[:1] in (b">", b"#"):
            if digest not in self.hashes:
                self.hashes.append(digest)
            self.nopass = self.iam = False
        elif digest in self.hashes:
            self.hashes.remove(digest)
        else:
            raise AclError("The password you are trying to remove from the user does not exist")

    def flags(self) -> list[bytes]:
        """As ACL GETUSER lists them."""
        found = [b"on" if self.enabled else b"off"]
        if self.nopass:
            found.append(b"nopass")
        if self.iam:
            found.append(b"iam")
        if self.sanitizes:
            found.append(b"sanitize-payload" if self.sanitizes > 0 else b"skip-sanitize-payload")
        return found

    def describe(self) -> bytes:
        """The rules that make this user out of a new one: a line of ACL LIST after the name, and what the log keeps."""
        own, others = self.selectors[0], self.selectors[1:]
        parts = self.flags() + [b"#" + digest for digest in self.hashes]
        parts += [own.describe()] + [b"(%b)" % selector.describe() for selector in others]
        return b" ".join(parts)

    # -- verdicts

    def judge(
        self, name: str, argv: list[bytes], keys: list[tuple[bytes, int]], channels: list[bytes], literally: bool
    ) -> tuple[int, int]:
        """Whether one selector allows all of a call: (verdict, place of the key or channel that was denied)."""
        nearest, place = DENIED_COMMAND, 0
        for selector in self.selectors:
            verdict, at = _judge(selector, name, argv, keys, channels, literally)
            if verdict == ALLOWED:
                return ALLOWED, 0
            if verdict > nearest or (verdict == nearest and at > place):
                nearest, place = verdict, at
        return nearest, place


def default_user(catalogue: Catalogue, password: bytes = b"") -> User:
    """The user that a connection has before it says AUTH, as it is while nothing was said about it."""
    made = User(b"default")
    made.apply_all([b"on", b">" + password if password else b"nopass", b"~*", b"&*", b"+@all"], catalogue)
    return made


def _judge(
    selector: Selector,
    name: str,
    argv: list[bytes],
    keys: list[tuple[bytes, int]],
    channels: list[bytes],
    literally: bool,
) -> tuple[int, int]:
    if not selector.may_run(name, argv):
        return DENIED_COMMAND, 0
    for i, (key, use) in enumerate(keys):
        if not selector.may_use(key, use):
            return DENIED_KEY, i
    for i, channel in enumerate(channels):
        if not selector.may_hear(channel, literally):
            return DENIED_CHANNEL, i
    return ALLOWED, 0


def hash_password(password: bytes) -> bytes:
    return hashlib.sha256(password).hexdigest().encode()


def merged(rules: list[bytes]) -> list[bytes]:
    """Join the words of each selector in parentheses. Raises AclError."""
    found: list[bytes] = []
    open_at = -1
    for i, rule in enumerate(rules):
        if open_at < 0 and rule[:1] == b"(" and rule[-1:] != b")":
            open_at = i
        elif open_at < 0:
            found.append(rule)
        elif rule[-1:] == b")":
            found.append(b" ".join(rules[open_at : i + 1]))
            open_at = -1
    if open_at >= 0:
        shown = rules[open_at].split(b"\0")[0].decode("utf-8", "surrogateescape")
        raise AclError(f"Unmatched parenthesis in acl selector starting at '{shown}'.")
    return found


def _refuse_blanks(pattern: bytes) -> None:
    """A pattern with a blank could not be written into a line of rules."""
    if any(byte in b" \t\n\v\f\r\0" for byte in pattern):
        raise AclError(_SYNTAX)


EVERYONE: Final = default_user(Catalogue({}, {}, []))  # may do everything, and needs no password
