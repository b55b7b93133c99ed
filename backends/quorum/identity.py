"""The identity of a zone: `zone.json`, written once when the zone joins its log.

It holds the log's id, the zone's index and the number of zones, so that a directory of another log, two
swapped directories or a changed number of zones are refused, never mixed. It is also the mark of a *member*: a
directory without it is blank, remembers nothing, and counts in no majority until it was rebuilt.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Final

import google_crc32c

from eventdb.backends.quorum.files import (
    FileOps,
    create_once,
    make_directories,
    read_file,
    replace_whole,
    sync_directory,
)

NAME: Final = "zone.json"
_BYTES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    log_id: str
    zone: int  # index, from 0
    zones: int

    def encode(self) -> bytes:
        facts = {"format": 1, "log": self.log_id, "zone": self.zone, "zones": self.zones}
        return json.dumps({**facts, "crc32c": _checksum(facts)}).encode() + b"\n"


class DamagedIdentity(Exception):  # noqa: N818
    """zone.json exists and cannot be believed."""


def new_log_id() -> str:
    return os.urandom(16).hex()


def load(ops: FileOps, directory: str) -> Identity | None:
    """The identity, or None when the directory is blank or missing. Raises DamagedIdentity, OSError."""
    try:
        raw = read_file(ops, os.path.join(directory, NAME), _BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        facts = json.loads(raw)
        checksum = facts.pop("crc32c")
        if checksum != _checksum(facts) or facts["format"] != 1:
            raise ValueError("wrong checksum or format")
        return Identity(str(facts["log"]), int(facts["zone"]), int(facts["zones"]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedIdentity(f"{os.path.join(directory, NAME)}: {error}") from None


def create(ops: FileOps, directory: str, identity: Identity) -> bool:
    """Write the identity of a new log's zone; False when somebody else was first."""
    make_directories(ops, directory)
    return create_once(ops, directory, NAME, identity.encode())


def join(ops: FileOps, directory: str, identity: Identity) -> None:
    """Make a rebuilt zone a member again: the last step, when its promise and its history are on disk."""
    replace_whole(ops, directory, NAME, identity.encode())


def leave(ops: FileOps, directory: str) -> None:
    """Make the zone blank, before it is rebuilt: until then nobody may count what it forgot."""
    try:
        ops.unlink(os.path.join(directory, NAME))
    except FileNotFoundError:
        return
    sync_directory(ops, directory)


def _checksum(facts: dict[str, object]) -> int:
    return int(google_crc32c.value(json.dumps(facts, sort_keys=True).encode()))
