"""`aws-kms:`: a key-encryption key that AWS KMS keeps, and never gives away (`keyrings.Wrapping`).

    aws-kms:KEY[?NAME=VALUE&...]

KEY is the id of a symmetric key, its ARN, or an alias (`alias/NAME`, or its ARN). What follows the question mark goes
into the encryption context beside eventdb's own entry, the data key's number. The context is authenticated, stands in
CloudTrail, and a policy can ask for it (`kms:EncryptionContext:NAME`): a node may unwrap the keys of its own log alone.

Region, credentials, profiles and endpoints are found as by every program of AWS; an ARN names the region itself. It
takes kms:Encrypt to wrap a key and kms:Decrypt to unwrap one.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final
from urllib.parse import parse_qsl

from eventdb.backends.seal import BadKeys

CONTEXT: Final = "eventdb"  # the name of its own entry in the encryption context
CONNECT_S: Final = 3.0
ANSWER_S: Final = 5.0
TRIES: Final = 2
# A keyring of twenty keys asks twenty times: one that is out of reach is waited for once.
AWAY_S: Final = 2.0


class Service:
    """KMS in one region. Any thread may use it."""

    def __init__(self, region: str) -> None:
        """Raises BadKeys: botocore, a region or the settings are missing."""
        try:
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
            from botocore.session import Session
        except ModuleNotFoundError:
            raise BadKeys("it needs botocore, which is not installed: pip install 'eventdb[kms]'") from None
        retries = {"total_max_attempts": TRIES, "mode": "standard"}
        config = Config(connect_timeout=CONNECT_S, read_timeout=ANSWER_S, retries=retries)
        try:
            self._client: Any = Session().create_client("kms", region_name=region or None, config=config)
        except (BotoCoreError, ValueError) as error:
            raise BadKeys(f"{error}") from None
        self._away = 0.0  # until then nobody asks
        self._why = ""

    def ask(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Raises BadKeys."""
        from botocore import exceptions

        if time.monotonic() < self._away:
            raise BadKeys(self._why)
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except exceptions.ClientError as error:
            said = error.response.get("Error", {})
            why = said.get("Message") or "the key or the encryption context is not that which wrapped it"
            raise BadKeys(f"{said.get('Code') or 'refused'}: {why}") from None
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            self._away, self._why = time.monotonic() + AWAY_S, f"{error}"
            raise BadKeys(self._why) from None
        except exceptions.BotoCoreError as error:
            raise BadKeys(f"{error}") from None
        return answer


_services: Final[dict[str, Service]] = {}
_lock: Final = threading.Lock()


def _service(region: str) -> Service:
    with _lock:
        if region not in _services:
            _services[region] = Service(region)
        return _services[region]


class KmsWrapping:
    """One key of KMS, and what is in the encryption context beside the data key's number."""

    def __init__(self, key: str, region: str, context: dict[str, str]) -> None:
        self.key = key
        self.region = region
        self.context = context

    def wrap(self, key: bytes, about: bytes) -> bytes:
        answer = _service(self.region).ask(
            "encrypt", {"KeyId": self.key, "Plaintext": key, "EncryptionContext": self._context(about)}
        )
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        asked = {"CiphertextBlob": wrapped, "EncryptionContext": self._context(about)}
        # An alias may name another key by now; what wrapped it stands in the ciphertext.
        named = {} if self.key.startswith("alias/") or ":alias/" in self.key else {"KeyId": self.key}
        return bytes(_service(self.region).ask("decrypt", asked | named)["Plaintext"])

    def _context(self, about: bytes) -> dict[str, str]:
        return {**self.context, CONTEXT: about.decode()}


def open_kms(url: str) -> KmsWrapping:
    """The key that an `aws-kms:` URL names; nothing is asked yet. Raises BadKeys."""
    key, question, query = url.partition(":")[2].partition("?")
    if not key:
        raise BadKeys("write aws-kms:KEY, the id, the ARN or the alias of a key of AWS KMS")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(question))
    except ValueError:
        raise BadKeys("the encryption context is written ?NAME=VALUE&NAME=VALUE") from None
    context = dict(pairs)
    if len(context) < len(pairs) or CONTEXT in context or not all(context) or not all(context.values()):
        raise BadKeys(f"each name stands once in the encryption context, with a value, and {CONTEXT!r} is not free")
    parts = key.split(":")
    named = parts[3] if key.startswith("arn:") and len(parts) > 5 else ""
    return KmsWrapping(key, named or os.environ.get("AWS_REGION", ""), context)
