"""Glob patterns over bytes as Redis matches them (KEYS, SCAN, PSUBSCRIBE, CONFIG GET).

Source: redis src/util.c stringmatchlen. Not fnmatch: `[^a]` negates, a backslash quotes, an open `[` at the end
is closed silently, and bytes are compared, not letters.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SPECIAL = frozenset(b"*?[\\")


@lru_cache(maxsize=512)
def compile_glob(pattern: bytes, ignore_case: bool = False) -> re.Pattern[bytes]:
    """Translate to a regular expression."""
    parts: list[bytes] = []
    i, n = 0, len(pattern)
    while i < n:
        c = pattern[i]
        if c == 42:  # *
            if not parts or parts[-1] != b".*":
                parts.append(b".*")
        elif c == 63:  # ?
            parts.append(b".")
        elif c == 91:  # [
            body, i = _set(pattern, i + 1)
            parts.append(body)
            continue
        elif c == 92 and i + 1 < n:  # backslash
            i += 1
            parts.append(re.escape(pattern[i : i + 1]))
        else:
            parts.append(re.escape(pattern[i : i + 1]))
        i += 1
    return re.compile(_without_backtracking(parts), re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _without_backtracking(parts: list[bytes]) -> bytes:
    """Join the parts so that a hostile pattern (`a*a*a*a*b`) costs no more than its length times the text's.

    What stands between two stars matches in one place at most as well as in the first, so that one is final.
    """
    groups: list[list[bytes]] = [[]]
    for part in parts:
        if part == b".*":
            groups.append([])
        else:
            groups[-1].append(part)
    joined = [b"".join(group) for group in groups]
    if len(joined) == 1:
        return joined[0]
    middle = [b"(?>.*?%b)" % group for group in joined[1:-1]]
    return b"(?=.)" + joined[0] + b"".join(middle) + b".*" + joined[-1]  # stars match no empty text


def _set(pattern: bytes, i: int) -> tuple[bytes, int]:
    """Translate a `[…]` that starts before index i; return it and the index after it."""
    n = len(pattern)
    negate = i < n and pattern[i] == 94
    if negate:
        i += 1
    members: list[bytes] = []
    while i < n and pattern[i] != 93:
        if pattern[i] == 92 and i + 1 < n:
            i += 1
            members.append(re.escape(pattern[i : i + 1]))
        elif i + 2 < n and pattern[i + 1] == 45:
            low, high = sorted((pattern[i], pattern[i + 2]))
            members.append(re.escape(bytes([low])) + b"-" + re.escape(bytes([high])))
            i += 2
        else:
            members.append(re.escape(pattern[i : i + 1]))
        i += 1
    if not members:
        return (b"." if negate else b"(?!)"), i + 1
    return b"[%b%b]" % (b"^" if negate else b"", b"".join(members)), i + 1


def glob_match(pattern: bytes, text: bytes, ignore_case: bool = False) -> bool:
    """True when the whole text matches. No star matches an empty text; KEYS and SCAN do not ask about "*" alone."""
    if pattern == b"*":
        return len(text) > 0
    if not ignore_case and _SPECIAL.isdisjoint(pattern):
        return pattern == text
    return compile_glob(pattern, ignore_case).fullmatch(text) is not None
