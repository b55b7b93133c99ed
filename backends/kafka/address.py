"""The URL of a log in Kafka, and the options that may stand in it or in a file.

    kafka://broker1:9092,broker2:9092/topic?option=value&option=value

| option | meaning |
|---|---|
| `allow-weak=1` | take a topic that does not keep what eventdb promises, or make one with too few brokers |
| `options=/path` | read more options from a file, one `name=value` a line, `#` starts a comment; the URL's own win |
| `security-protocol` | PLAINTEXT (default), SSL, SASL_PLAINTEXT, SASL_SSL |
| `sasl-mechanism` | PLAIN (default), SCRAM-SHA-256, SCRAM-SHA-512 |
| `sasl-username`, `sasl-password` | the user; the password belongs in the file |
| `ssl-cafile`, `ssl-certfile`, `ssl-keyfile`, `ssl-keypassword` | PEM files, and the key's password |

In the file a dot may stand for a dash (`sasl.password=…`). Secrets never show: not in `url`, not in an error, not in
a repr.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

from eventdb.backends.discreet import discreet
from eventdb.backends.log import BadLogURL

PORT_DEFAULT: Final = 9092
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
OPTIONS: Final = (
    "allow-weak", "options", "security-protocol", "sasl-mechanism", "sasl-username", "sasl-password",
    "ssl-cafile", "ssl-certfile", "ssl-keyfile", "ssl-keypassword",
)  # fmt: skip
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")  # what Kafka allows


@dataclass(frozen=True, slots=True)
class Address:
    """Where the log is and how to get in. `options` holds secrets, so it is in no repr."""

    brokers: tuple[tuple[str, int], ...]
    topic: str
    shown: str  # the URL without its secrets
    allow_weak: bool = False
    options: dict[str, str] = field(default_factory=dict, repr=False)

    def security(self) -> dict[str, object]:
        """Arguments for `aiokafka.conn.create_conn`. Raises BadLogURL when a certificate cannot be used."""
        options = self.options
        protocol = options.get("security-protocol", "PLAINTEXT")
        found: dict[str, object] = {"security_protocol": protocol}
        if protocol.startswith("SASL"):
            found["sasl_mechanism"] = options.get("sasl-mechanism", "PLAIN")
            found["sasl_plain_username"] = options["sasl-username"]
            found["sasl_plain_password"] = options["sasl-password"]
        if protocol.endswith("SSL"):
            files = tuple(options.get(f"ssl-{name}") for name in ("cafile", "certfile", "keyfile", "keypassword"))
            try:
                found["ssl_context"] = _context(*files)
            except OSError as error:
                raise BadLogURL(f"{self.shown}: the ssl- files cannot be used: {error}") from None
        return found


@lru_cache(maxsize=8)
def _context(cafile: str | None, certfile: str | None, keyfile: str | None, password: str | None) -> ssl.SSLContext:
    """Made once: reading the certificates of the system takes longer than connecting. Raises OSError."""
    context = ssl.create_default_context(cafile=cafile)
    if certfile is not None:
        context.load_cert_chain(certfile, keyfile, lambda: password or "")
    return context


def parse(url: str) -> Address:
    """Read the URL and the file it may name. Raises BadLogURL, in whose text no secret stands."""
    shown = discreet(url)
    rest = url.partition(":")[2]
    if not rest.startswith("//"):
        raise BadLogURL(f"{shown}: write kafka://BROKER:PORT,BROKER:PORT/TOPIC")
    where, _, query = rest[2:].partition("?")
    hosts, slash, topic = where.partition("/")
    if "@" in hosts:
        raise BadLogURL("kafka: takes no user@ before its brokers: write ?sasl-username= or, better, ?options=FILE")
    topic = unquote(topic)
    if not slash or not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise BadLogURL(f"{shown}: names no topic; one is made of letters, digits, '.', '_' and '-'")
    given = _query(shown, query)
    options = {**_file(shown, given["options"]), **given} if "options" in given else given
    _check(shown, options)
    brokers = tuple(_broker(shown, host) for host in hosts.split(","))
    return Address(brokers, topic, shown, options.get("allow-weak") == "1", options)


def _broker(shown: str, host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):  # no port: a bare name or a bare [v6]
        name, port = host, str(PORT_DEFAULT)
    name = name.removeprefix("[").removesuffix("]")
    if not name or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise BadLogURL(f"{shown}: {host!r} is no broker: write NAME:PORT, several with commas between")
    return name, int(port)


def _query(shown: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise BadLogURL(f"{shown}: what follows the ? is not option=value") from None
    return dict(pairs)


def _file(shown: str, path: str) -> dict[str, str]:
    try:
        text = Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadLogURL(f"{shown}: the options cannot be read: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise BadLogURL(f"{path}:{number}: a line is name=value")
        found[name.strip().replace(".", "-").lower()] = value.strip()
    return found


def _check(shown: str, options: dict[str, str]) -> None:
    for name in options:
        if name not in OPTIONS:
            raise BadLogURL(f"{shown}: kafka: has no option {name}; it has {', '.join(OPTIONS)}")
    protocol = options.get("security-protocol", "PLAINTEXT")
    if protocol not in PROTOCOLS:
        raise BadLogURL(f"{shown}: security-protocol is one of {', '.join(PROTOCOLS)}")
    if options.get("sasl-mechanism", "PLAIN") not in MECHANISMS:
        raise BadLogURL(f"{shown}: sasl-mechanism is one of {', '.join(MECHANISMS)}")
    if options.get("allow-weak", "1") not in ("0", "1"):
        raise BadLogURL(f"{shown}: allow-weak is 0 or 1")
    has_user = "sasl-username" in options and "sasl-password" in options
    if protocol.startswith("SASL") != has_user:
        raise BadLogURL(f"{shown}: SASL takes security-protocol=SASL_…, sasl-username and sasl-password, all three")
    if "ssl-keyfile" in options and "ssl-certfile" not in options:
        raise BadLogURL(f"{shown}: ssl-keyfile needs ssl-certfile, whose key it is")
    if not protocol.endswith("SSL") and any(name.startswith("ssl-") for name in options):
        raise BadLogURL(f"{shown}: ssl- options need security-protocol=SSL or SASL_SSL")
