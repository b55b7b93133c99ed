"""Access keys and their policies: who may connect to which cluster as which user.

Policies are IAM's JSON documents: statements with Effect, Action and Resource. A key may connect when statements allow
`memorydb:connect` (or `elasticache:Connect`) on the cluster and on the user, and none denies it; a key without a
policy may not. What would narrow a statement and is not understood here (Condition, NotAction, Principal …) is refused
when it is read, because passing over it would allow more than it says.
Source: AWS IAM guide, "JSON policy elements" and "Policy evaluation logic".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

ACCOUNT: Final = "000000000000"
_STATEMENT: Final = frozenset(("Sid", "Effect", "Action", "Resource"))
_ENTRY: Final = frozenset(("access_key_id", "secret_access_key", "session_token", "account", "policies"))


class BadKeys(ValueError):  # noqa: N818
    """The document of access keys makes no sense; the text says where. It never holds a secret."""


@dataclass(frozen=True, slots=True)
class Statement:
    allows: bool
    actions: tuple[re.Pattern[str], ...]
    resources: tuple[re.Pattern[str], ...]

    def names(self, action: str, resource: str) -> bool:
        return any(one.fullmatch(action) for one in self.actions) and any(
            one.fullmatch(resource) for one in self.resources
        )


@dataclass(frozen=True, slots=True)
class AccessKey:
    key_id: str
    secret: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    account: str = ACCOUNT
    statements: tuple[Statement, ...] = ()

    def may_connect(self, service: str, region: str, cluster: str, user: str, *, serverless: bool = False) -> bool:
        """Whether the policies allow it, on both the cluster and the user."""
        kind = "cluster/" if service == "memorydb" else "serverlesscache:" if serverless else "replicationgroup:"
        who = "user/" if service == "memorydb" else "user:"
        prefix = f"arn:aws:{service}:{region}:{self.account}:"
        return all(self._allows(f"{service}:connect", prefix + each) for each in (kind + cluster, who + user))

    def _allows(self, action: str, resource: str) -> bool:
        named = [statement.allows for statement in self.statements if statement.names(action, resource)]
        return bool(named) and all(named)


def read_keys(text: str) -> dict[str, AccessKey]:
    """Access keys by id, from JSON: one entry, or {"keys": [entry, …]}. Raises BadKeys."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadKeys(f"it is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadKeys("it is no JSON object")
    entries = found["keys"] if set(found) == {"keys"} else [found]
    if not isinstance(entries, list):
        raise BadKeys('"keys" is no list')
    keys: dict[str, AccessKey] = {}
    for number, entry in enumerate(entries, 1):
        key = _read_entry(entry, f"entry {number}")
        if key.key_id in keys:
            raise BadKeys(f"the access key {key.key_id!r} stands in it twice")
        keys[key.key_id] = key
    return keys


def _read_entry(entry: Any, where: str) -> AccessKey:
    if not isinstance(entry, dict):
        raise BadKeys(f"{where} is no object")
    strange = sorted(set(entry) - _ENTRY)
    if strange:
        raise BadKeys(f"{where} has {strange[0]!r}, which no entry has")
    for name in ("access_key_id", "secret_access_key"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise BadKeys(f"{where} lacks {name!r}")
    for name in ("session_token", "account"):
        if not isinstance(entry.get(name, ""), str):
            raise BadKeys(f"{name!r} of {where} is no text")
    documents = entry.get("policies", [])
    if not isinstance(documents, list):
        raise BadKeys(f"'policies' of {where} is no list")
    statements = [one for document in documents for one in _read_policy(document, where)]
    return AccessKey(
        entry["access_key_id"],
        entry["secret_access_key"],
        entry.get("session_token", ""),
        entry.get("account", ACCOUNT),
        tuple(statements),
    )


def _read_policy(document: Any, where: str) -> list[Statement]:
    if not isinstance(document, dict) or "Statement" not in document or set(document) - {"Version", "Id", "Statement"}:
        raise BadKeys(f"a policy of {where} is not {{'Version': …, 'Statement': […]}}")
    found = document["Statement"]
    return [_read_statement(each, where) for each in (found if isinstance(found, list) else [found])]


def _read_statement(found: Any, where: str) -> Statement:
    if not isinstance(found, dict):
        raise BadKeys(f"a statement of {where} is no object")
    strange = sorted(set(found) - _STATEMENT)
    if strange:
        raise BadKeys(f"a statement of {where} has {strange[0]!r}, which is not understood here")
    if found.get("Effect") not in ("Allow", "Deny"):
        raise BadKeys(f"the Effect of a statement of {where} is neither 'Allow' nor 'Deny'")
    actions = [_pattern(text, re.IGNORECASE) for text in _texts(found, "Action", where)]
    resources = [_pattern(text) for text in _texts(found, "Resource", where)]
    return Statement(found["Effect"] == "Allow", tuple(actions), tuple(resources))


def _texts(found: dict[str, Any], name: str, where: str) -> list[str]:
    value = found.get(name)
    values = value if isinstance(value, list) else [value]
    texts = [text for text in values if isinstance(text, str)]
    if not texts or len(texts) != len(values):
        raise BadKeys(f"a statement of {where} lacks {name!r}, or it is no text")
    return texts


def _pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """A text in which * stands for any characters and ? for one."""
    parts = {"*": ".*", "?": "."}
    return re.compile(
        "".join(parts.get(letter, re.escape(letter)) for letter in re.sub(r"\*+", "*", text)), flags | re.S
    )
