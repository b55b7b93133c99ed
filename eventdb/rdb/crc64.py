"""The checksum of Redis's format: CRC-64 with the polynomial of Jones. Source: redis src/crc64.c."""

from __future__ import annotations

from typing import Final

import anycrc

_MODEL: Final = anycrc.Model("CRC64-REDIS")


def crc64(data: bytes, before: int = 0) -> int:
    """The checksum of `data`; before: the checksum of what came before it."""
    found: int = _MODEL.calc(data, before)
    return found
