"""plain_run.c: runs of plain commands without the interpreter. Only there where a C compiler was."""

from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.zset import ZSetValue

class Runner:
    """Buffers that are kept from run to run. See plain_run.c for the rules."""

    def __new__(cls, hash_: type[HashValue], list_: type[ListValue], zset: type[ZSetValue], /) -> Runner: ...
    def run(
        self,
        data: bytes,
        start: int,
        limit: int,
        values: dict[bytes, object],
        expires: dict[bytes, int],
        now_ms: int,
        dirty: list[set[bytes]] | None,
        null: bytes,
        apart: bool,
        replies: list[bytes],
        tally: list[int],
        head: bytes | None,
        changed: set[bytes],
        chunks: list[bytes],
        room: int,
        ordered: bool,
        /,
    ) -> int:
        """Run up to `limit` plain commands of data[start:], all reads or all writes; returns where the next one begins.

        values, expires, now_ms: the database and the clock. dirty: keys that reads stop at; None: no read is run.
        replies: gets the replies; those of reads in one piece, or each by itself (`apart`), those of writes always so.
        tally: gets the calls of each command, and what follows them in plain_runs.py.
        head: what each transaction begins with, up to its event; None: no write is run. changed: gets the keys written,
        chunks: one piece with all transactions. It ends when their events have `room` bytes. ordered: the database
        keeps an Order, so no key is new.
        """
