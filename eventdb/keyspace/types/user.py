"""Users in the log: the rules of each, as the line that makes it (security/acl.py).

They are no keys: FLUSHALL leaves them, SCAN does not show them. Replicas, restarts, restores and the digest have them.
"""

from __future__ import annotations

from typing import Final

from eventdb.keyspace.databases import Db
from eventdb.keyspace.events import KEY_NONE, event

SET_USER: Final = b"ACLSETUSER"
DELETE_USERS: Final = b"ACLDELUSER"


@event(SET_USER, KEY_NONE)
def apply_set_user(db: Db, argv: list[bytes]) -> None:
    """ACLSETUSER name rules: all of them, in place of those it had."""
    keyspace = db.keyspace
    keyspace.users[argv[1]] = argv[2]
    keyspace.users_version += 1


@event(DELETE_USERS, KEY_NONE)
def apply_delete_users(db: Db, argv: list[bytes]) -> None:
    """ACLDELUSER name [name ...]."""
    keyspace = db.keyspace
    for name in argv[1:]:
        del keyspace.users[name]
    keyspace.users_version += 1
