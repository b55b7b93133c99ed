"""Logging in with a signed token instead of a password, as Amazon MemoryDB and ElastiCache take it.

A token is the URL of a request that is never sent, signed with an access key (AWS Signature Version 4, in the query)::

    CLUSTER/?Action=connect&User=NAME&X-Amz-Algorithm=AWS4-HMAC-SHA256
        &X-Amz-Credential=KEY/DATE/REGION/memorydb/aws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=900
       &X-Amz-SignedHeaders=host&X-Amz-Signature=…

A program with the key makes tokens without asking anybody, and a token that leaks is worth nothing minutes later. It
may be used more than once until then, as at Amazon. The secret never travels. Access keys, and the policies that say
who may connect to what as whom, come from a `Keys`: a file, or a command that is asked for one key.
Source: AWS General Reference, "Signature Version 4 signing process"; MemoryDB guide, "Authenticating with IAM".
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote, unquote

from eventdb.security.policies import AccessKey

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICES: Final = ("memorydb", "elasticache")
EXPIRES_S_MAX: Final = 900
SKEW_S_MAX: Final = 300  # that a token may be made in what is the future here
TOKEN_BYTES_MAX: Final = 8192
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_DATE: Final = re.compile(r"\d{8}T\d{6}Z")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_KNOWN: Final = frozenset(
    (
        "Action", "User", "ResourceType", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
        "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token",
    )
)  # fmt: skip


class Refused(ValueError):  # noqa: N818
    """The token lets nobody in; the text says why, to an operator. It holds no part of the token but names."""


class Pending(Exception):  # noqa: N818 - it is no error: the verdict takes a while
    """The access key has to be looked up first; `lookup` does it, in a thread, and never raises."""

    def __init__(self, lookup: Callable[[], None]) -> None:
        super().__init__("the access key is being looked up")
        self.lookup = lookup


class Provider(Protocol):
    """Something that knows whether a token is good: IAM here; a second one would be OpenID Connect."""

    def verify(self, user: str, token: str, now_s: float) -> None:
        """Return when `token` lets `user` in at `now_s` (Unix seconds). Raises Refused, Pending."""
        ...


class Keys(Protocol):
    """Where access keys come from."""

    def find(self, key_id: str) -> AccessKey | None:
        """None: there is no such key. Raises Refused when that cannot be told, Pending when it is looked up first."""
        ...


@dataclass(frozen=True, slots=True)
class Iam:
    """The provider for tokens of one cluster. cluster: the name in tokens; region: "" takes any."""

    cluster: str
    keys: Keys
    region: str = ""

    def verify(self, user: str, token: str, now_s: float) -> None:
        """See `Provider`."""
        found = parse(token)
        query = found.query
        if query["User"] != user:
            raise Refused(f"it was made for the user {query['User'][:64]!r}")
        if found.host != self.cluster.lower():
            raise Refused(f"it was made for the cluster {found.host[:64]!r}, and this one is {self.cluster!r}")
        scope = _Scope.of(query["X-Amz-Credential"])
        if self.region and scope.region != self.region:
            raise Refused(f"it was made for the region {scope.region[:32]!r}, and this one is {self.region!r}")
        _check_times(query, scope, now_s)
        key = self.keys.find(scope.key_id)
        if key is None:
            raise Refused(f"there is no access key {scope.key_id[:32]!r}")
        if query.get("X-Amz-Security-Token", "") != key.session_token:
            raise Refused(f"it does not bear the session token that belongs to the access key {key.key_id!r}")
        if not hmac.compare_digest(_signature(found, scope, key.secret), query["X-Amz-Signature"]):
            raise Refused(
                f"its signature is not that of the access key {key.key_id!r}: another secret, or it was changed"
            )
        serverless = query.get("ResourceType") == "ServerlessCache"
        if not key.may_connect(scope.service, scope.region, self.cluster, user, serverless=serverless):
            raise Refused(f"no policy of the access key {key.key_id!r} allows it to connect here as {user!r}")


@dataclass(frozen=True, slots=True)
class Token:
    """A token in parts, not verified. query: decoded names and values, the signature among them."""

    host: str  # in lower case
    query: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a signature is good for: X-Amz-Credential."""

    key_id: str
    date: str
    region: str
    service: str

    @classmethod
    def of(cls, credential: str) -> _Scope:
        parts = credential.split("/")
        if len(parts) != 5 or parts[4] != "aws4_request" or not parts[0]:
            raise Refused("X-Amz-Credential is not KEY/DATE/REGION/SERVICE/aws4_request")
        if parts[3] not in SERVICES:
            raise Refused(f"it was made for the service {parts[3][:32]!r}; memorydb and elasticache count")
        return cls(*parts[:4])

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def parse(token: str) -> Token:
    """Take a token apart. Raises Refused for what is none."""
    if len(token) > TOKEN_BYTES_MAX:
        raise Refused(f"it is longer than {TOKEN_BYTES_MAX} bytes")
    text = re.sub(r"^https?://", "", token)
    host, mark, rest = text.partition("/?")
    if not mark or not host or "/" in host:
        raise Refused("it is no token: CLUSTER/?Action=connect&User=… is")
    query: dict[str, str] = {}
    for part in rest.split("&"):
        name, _, value = part.partition("=")
        name = unquote(name)
        if name in query:
            raise Refused(f"{name[:32]!r} stands in it twice")
        if name not in _KNOWN:
            raise Refused(f"it has a part that no token has: {name[:32]!r}")
        query[name] = unquote(value)
    for name in sorted(_KNOWN - {"ResourceType", "X-Amz-Security-Token"}):
        if not query.get(name):
            raise Refused(f"it lacks {name}")
    if query["Action"] != "connect":
        raise Refused(f"its Action is {query['Action'][:32]!r}, not 'connect'")
    if query["X-Amz-Algorithm"] != ALGORITHM or query["X-Amz-SignedHeaders"] != "host":
        raise Refused(f"it is not signed by {ALGORITHM} over its host")
    if query.get("ResourceType", "ServerlessCache") != "ServerlessCache":
        raise Refused("its ResourceType is not 'ServerlessCache'")
    if not _HEX.fullmatch(query["X-Amz-Signature"]):
        raise Refused("its signature is not 64 hexadecimal digits")
    return Token(host.lower(), query)


def _check_times(query: dict[str, str], scope: _Scope, now_s: float) -> None:
    expires, date = query["X-Amz-Expires"], query["X-Amz-Date"]
    if not expires.isascii() or not expires.isdigit() or not 0 < int(expires[:9]) <= EXPIRES_S_MAX:
        raise Refused(f"it says that it is good for {expires[:16]!r} seconds; 1 to {EXPIRES_S_MAX} may be asked for")
    if not _DATE.fullmatch(date) or date[:8] != scope.date:
        raise Refused("X-Amz-Date is not YYYYMMDDTHHMMSSZ, or another day than that of its credential")
    try:
        made_s = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise Refused("X-Amz-Date is no moment") from None
    if made_s - now_s > SKEW_S_MAX:
        raise Refused(f"it was made {made_s - now_s:.0f} s in the future: one of the clocks is wrong")
    if now_s >= made_s + int(expires):
        raise Refused(f"it expired {now_s - made_s - int(expires):.0f} s ago")


def _signature(token: Token, scope: _Scope, secret: str) -> str:
    """What the signature of these parts has to be."""
    pairs = sorted((_quoted(name), _quoted(value)) for name, value in token.query.items() if name != "X-Amz-Signature")
    canonical = "&".join(f"{name}={value}" for name, value in pairs)
    request = f"GET\n/\n{canonical}\nhost:{token.host}\n\nhost\n{EMPTY_SHA256}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"{ALGORITHM}\n{token.query['X-Amz-Date']}\n{scope}\n{digest}"
    key = ("AWS4" + secret).encode()
    for part in (scope.date, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def make(
    cluster: str,
    user: str,
    key: AccessKey,
    *,
    region: str,
    service: str = "memorydb",
    now_s: float | None = None,
    expires_s: int = EXPIRES_S_MAX,
    serverless: bool = False,
) -> str:
    """A token for `user` of `cluster`, as `eventdb iam token` prints it."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    query = {
        "Action": "connect",
        "User": user,
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{key.key_id}/{date[:8]}/{region}/{service}/aws4_request",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": "host",
    }
    if key.session_token:
        query["X-Amz-Security-Token"] = key.session_token
    if serverless:
        query["ResourceType"] = "ServerlessCache"
    token = Token(cluster.lower(), query)
    signature = _signature(token, _Scope.of(query["X-Amz-Credential"]), key.secret)
    parts = [f"{_quoted(name)}={_quoted(value)}" for name, value in query.items()]
    return f"{token.host}/?" + "&".join([*parts, f"X-Amz-Signature={signature}"])
