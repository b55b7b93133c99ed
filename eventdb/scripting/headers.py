"""The first line of a script or a library, `#!lua …`, and the flags that scripts and functions may have.

Every text and the order of the checks are Redis's. Source: redis src/eval.c evalExtractShebangFlags, src/functions.c
functionExtractLibMetaData, src/script.c scripts_flags_def.
"""

from __future__ import annotations

from typing import Final

from eventdb.protocol.errors import ReplyError, shown
from eventdb.protocol.requests import split_arguments

ATOMIC: Final = "atomic-errors"  # which Redis does not have
# As they are listed.
FLAGS: Final = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys", ATOMIC)
BAD_NAME: Final = (
    "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
)


class Rules:
    """What a script or a function may do, by its flags."""

    def __init__(self, flags: frozenset[str], *, old: bool = False) -> None:
        """old: a script without `#!`, which says nothing: each of its commands is judged by itself."""
        self.old = old
        self.no_writes = "no-writes" in flags
        self.allow_oom = "allow-oom" in flags
        self.atomic = ATOMIC in flags  # its first error undoes all of it (engine/atomic.py)
        self.no_cluster = "no-cluster" in flags
        self.allow_cross_slot_keys = old or "allow-cross-slot-keys" in flags
        self.names = [flag for flag in FLAGS if flag in flags]


OLD: Final = Rules(frozenset(), old=True)


def script_header(source: bytes) -> tuple[bytes, Rules]:
    """The code of a script with its first line emptied, and its rules. Raises ReplyError."""
    if not source.startswith(b"#!"):
        return source, OLD
    line, newline, rest = source.partition(b"\n")
    if not newline:
        raise ReplyError("ERR Invalid script shebang")
    words = split_arguments(line)
    if not words:
        raise ReplyError("ERR Invalid engine in script shebang")
    if words[0] != b"#!lua":
        raise ReplyError(f"ERR Unexpected engine in script shebang: {shown(words[0])}")
    flags: set[str] = set()
    for word in words[1:]:
        if not word.startswith(b"flags="):
            raise ReplyError(f"ERR Unknown lua shebang option: {shown(word)}")
        for flag in word[6:].split(b",") if len(word) > 6 else []:
            if flag.decode("latin-1") not in FLAGS:
                raise ReplyError(f"ERR Unexpected flag in script shebang: {shown(flag)}")
            flags.add(flag.decode())
    return b"\n" + rest, Rules(frozenset(flags))


def library_header(source: bytes) -> tuple[bytes, bytes]:
    """The code of a library with its first line emptied, and its name. Raises ReplyError."""
    line, newline, rest = source.partition(b"\n")
    if not source.startswith(b"#!"):
        raise ReplyError("ERR Missing library metadata")
    words = split_arguments(line) if newline else None
    if not words:
        raise ReplyError("ERR Invalid library metadata")
    name: bytes | None = None
    for word in words[1:]:
        if word[:5].lower() != b"name=":
            raise ReplyError(f"ERR Invalid metadata value given: {shown(word)}")
        if name is not None:
            raise ReplyError("ERR Invalid metadata value, name argument was given multiple times")
        name = word[5:]
    if name is None:
        raise ReplyError("ERR Library name was not given")
    if not is_name(name):
        raise ReplyError(f"ERR {BAD_NAME}")
    engine = words[0][2:]
    if engine.lower() != b"lua":
        raise ReplyError(f"ERR Engine '{shown(engine)}' not found")
    return b"\n" + rest, name


def is_name(name: bytes) -> bool:
    """It may name a library or a function."""
    return name.replace(b"_", b"a").isalnum()
