"""Where in a script an error came from whose place Lua has forgotten.

`return redis.call(…)` is a tail call: Lua gives its caller up, and with it the line. In Redis redis.call is a C
function, for which Lua keeps the caller, so its errors have a line. Here it is looked for in the source: among the
tail calls of functions that are not the script's own.
"""

from __future__ import annotations

import re
from typing import Final

# Comments and strings, which may hold anything.
_TEXT: Final = re.compile(
    rb"""--\[(=*)\[.*?\]\1\]|--[^\n]*|\[(=*)\[.*?\]\2\]|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*\"""", re.DOTALL
)
_RETURN: Final = re.compile(rb"\breturn\s+([A-Za-z_][\w.]*)\s*\(")
_OWN: Final = re.compile(rb"\bfunction\s+([\w.]+)|([\w.]+)\s*=\s*function\b")
_BRACKET: Final = re.compile(rb"[()]")
_END: Final = re.compile(rb"\s*(?:;|end\b|else\b|elseif\b|until\b|\Z)")
_STRING: Final = re.compile(rb"""\s*(?:'([^']*)'|"([^"]*)")""")
_CALLS: Final = (b"redis.call", b"redis.pcall")


def tail_line(source: bytes, last_line: int, command: bytes | None) -> int:
    """The line (from 1) of the tail call that most likely raised an error; last_line where there is none.

    command: the name of the one that failed; None: what failed is another function of ours. last_line: that of the
    function that was called from outside; what stands after it is less likely.
    """
    code = _TEXT.sub(_blank, source)
    own = {name for pair in _OWN.findall(code) for name in pair if name}
    best, found = (False, False, False, False, 0), last_line
    for match in _RETURN.finditer(code):
        callee, begin = match[1], match.end()
        if not _is_last(code, begin):
            continue
        line = code.count(b"\n", 0, begin) + 1
        text = _STRING.match(source, begin)
        named = command is not None and text is not None and (text[1] or text[2] or b"").upper() == command.upper()
        rank = (callee not in own, named, (callee in _CALLS) == (command is not None), line <= last_line, line)
        if rank > best:
            best, found = rank, line
    return found


def _blank(match: re.Match[bytes]) -> bytes:
    """As long and with as many lines, without a word; a string still is something that ends no statement."""
    text = match[0]
    blank = re.sub(rb"[^\n]", b" ", text)
    return blank if text.startswith(b"--") else b"'" + blank[1:-1] + b"'"


def _is_last(code: bytes, begin: int) -> bool:
    """Nothing but the end of a block follows the brackets that open before `begin`."""
    depth = 1
    for bracket in _BRACKET.finditer(code, begin):
        depth += 1 if bracket[0] == b"(" else -1
        if not depth:
            return _END.match(code, bracket.end()) is not None
    return False
