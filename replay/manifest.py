"""What a snapshot says of itself: a small JSON object beside the data, and the proof that the data was read back.

A snapshot exists as soon as its manifest does, and the manifest is written last; so what has none is no snapshot,
whatever died where. Format 1 is read for ever (tests/golden/snapshot).

    00000000000000051200-3-9f0c2b61d4e8a7f3.rdb.zst     the data: offset, epoch, and digits of the time and of chance
    00000000000000051200-3-9f0c2b61d4e8a7f3.json        its manifest
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from eventdb.backends.log import LogError

FORMAT: Final = 1
SUM: Final = "manifest_sha256"
DATA: Final = ".rdb.zst"
MANIFEST: Final = ".json"
STEM: Final = re.compile(r"(\d{20})-(\d{1,20})-([0-9a-f]{16})")
BYTES_MAX: Final = 64 << 10  # of a manifest: nothing longer is read
TIME_MASK: Final = (1 << 44) - 1  # of Unix ms in a name, in 11 hexadecimal digits
HEX: Final = re.compile(r"[0-9a-f]+")


class BadManifest(LogError):  # noqa: N818 - named as the errors of log.py are
    """The bytes are no manifest that this version can believe."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One snapshot."""

    name: str  # of the snapshot: what its two objects' names begin with
    log_id: str  # LogInfo.log_id of the log it was made from
    offset: int  # it holds the transactions 1 to this one
    position: int  # where a reader goes on: at or before the record of the next transaction
    checksum: int  # of the latest record before `position` (Record.checksum); -1: there is none
    epoch: int  # of the record of transaction `offset`
    time_ms: int  # when that transaction was committed
    created_ms: int
    key_count: int
    types: dict[str, int]  # keys by type
    rdb_bytes: int
    stored_bytes: int
    sha256: str  # of the data object as it is stored
    digest: str  # of the state
    rdb_version: int
    eventdb_version: str
    verified: int = 0  # when it was read back, loaded and its digest compared; 0: never
    key_id: str = ""  # of the key that the data object is encrypted with; "": it is not encrypted
    format: int = field(default=FORMAT)

    @property
    def data_name(self) -> str:
        return self.name + DATA

    @property
    def manifest_name(self) -> str:
        return self.name + MANIFEST

    def encode(self) -> bytes:
        facts = asdict(self)
        return json.dumps({**facts, SUM: checksum(facts)}, indent=1, sort_keys=True).encode() + b"\n"


def checksum(facts: dict[str, Any]) -> str:
    """Of a manifest's own facts: a flipped digit of a position must not be believed."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def stem(offset: int, epoch: int, created_ms: int) -> str:
    """A name that nobody else has. The time in it tells how old data without a manifest is."""
    return f"{offset:020}-{epoch}-{created_ms & TIME_MASK:011x}{secrets.token_hex(3)[:5]}"


def created_in(name: str) -> int:
    """When the snapshot was begun whose data or manifest this is; 0 for another name."""
    found = STEM.fullmatch(name.removesuffix(DATA).removesuffix(MANIFEST))
    return int(found[3][:11], 16) if found is not None else 0


def offset_in(name: str) -> int:
    """The offset that the name of an object begins with; -1 for what is no part of a snapshot."""
    for suffix in (DATA, MANIFEST):
        if name.endswith(suffix) and (found := STEM.fullmatch(name.removesuffix(suffix))):
            return int(found[1])
    return -1


def decode(name: str, data: bytes) -> Manifest:
    """The manifest that the object `name` holds. Raises BadManifest: nothing is guessed, nothing is left out."""
    try:
        facts: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"{name} is no JSON ({error}): it is cut off or damaged") from None
    if not isinstance(facts, dict):
        raise BadManifest(f"{name} is no manifest of a snapshot")
    if facts.get("format") != FORMAT:
        raise BadManifest(f"{name} has format {facts.get('format')!r}; this version of eventdb reads {FORMAT}")
    said = facts.pop(SUM, None)
    if said != checksum(facts):
        raise BadManifest(f"{name} was changed since it was written: its own checksum is another")
    kinds = {each.name: each.type for each in fields(Manifest)}
    if strange := sorted(set(facts) ^ set(kinds)):
        raise BadManifest(f"{name} lacks, or should not have: {', '.join(strange)[:200]}")
    for key, kind in kinds.items():
        value = facts[key]
        if kind == "int":
            right = type(value) is int and value >= (-1 if key == "checksum" else 0)
        elif kind == "str":
            right = isinstance(value, str)
        else:
            right = isinstance(value, dict) and all(type(count) is int and count >= 0 for count in value.values())
        if not right:
            raise BadManifest(f"{name}: {key} cannot be {str(value)[:80]!r}")
    found = Manifest(**facts)
    if found.manifest_name != name or STEM.fullmatch(found.name) is None or offset_in(name) != found.offset:
        raise BadManifest(f"{name} is the manifest of {found.name[:80]!r}: it was renamed")
    if len(found.sha256) != 64 or not HEX.fullmatch(found.sha256) or not HEX.fullmatch(found.digest):
        raise BadManifest(f"{name}: its SHA-256 or its digest is none")
    if sum(found.types.values()) != found.key_count:
        raise BadManifest(f"{name}: {found.key_count} keys, and its types sum up to {sum(found.types.values())}")
    return found
