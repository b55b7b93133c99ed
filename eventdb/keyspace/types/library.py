"""Libraries of functions: source text by name, a part of the state that no key holds. FLUSHALL leaves them.

The event is LIBRARY, with what happened as its first argument: a whole library is set, so that a replay needs no
interpreter. The text was compiled before it was logged; what it means is for eventdb/scripting/functions.py.
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.databases import Db
from eventdb.keyspace.events import KEY_NONE, event

LIBRARY: Final = b"LIBRARY"


@event(LIBRARY, KEY_NONE)
def apply_library(db: Db, argv: list[bytes]) -> None:
    """LIBRARY SET name code | DELETE name | FLUSH."""
    libraries = db.keyspace.libraries
    if argv[1] == b"SET":
        libraries.set(argv[2], argv[3])
    elif argv[1] == b"DELETE":
        libraries.delete(argv[2])
    else:
        assert argv[1] == b"FLUSH", argv[1]
        libraries.clear()
