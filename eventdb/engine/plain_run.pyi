"""plain_run.c: runs of plain commands without the interpreter. Only there where a C compiler was."""

from collections.abc import Callable

from eventdb.engine.client import Client
from eventdb.keyspace.types.hash import HashValue
from eventdb.keyspace.types.list import ListValue
from eventdb.keyspace.types.set import SetValue
from eventdb.keyspace.types.zset import ZSetValue
from eventdb.keyspace.value import Limits

class Runner:
    """Buffers that are kept from run to run. See plain_run.c for the rules."""

    def __new__(
        cls, hash_: type[HashValue], list_: type[ListValue], set_: type[SetValue], zset: type[ZSetValue], /
    ) -> Runner: ...
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
        limits: Limits,
        client: Client,
        rights: tuple[bytes, tuple[bytes, ...]] | None,
        handling: tuple[
            list[Callable[..., bytes] | None],
            bytes,
            Callable[[int, list[bytes]], bool],
            Callable[[int, Exception], bytes],
            Callable[[], int],
        ],
        /,
    ) -> int:
        """Run up to `limit` plain commands of data[start:]; returns where the next one begins.

        Their replies wait for the same batch: none, one of those that changed `dirty`, or the open one.

        values, expires, now_ms: the database and the clock. dirty: the keys that each pending batch has changed; None:
        no read is run. replies: gets the replies; in one piece, or each by itself (`apart`, and whenever they wait).
        tally: gets the calls of each command, and what follows them in plain_runs.py.
        head: what each transaction begins with, up to its event; None: no write is run. changed: gets the keys written,
        chunks: all transactions. It ends when their events have `room` bytes. ordered: the database keeps an Order, so
        no key is new. rights: of each kind whether the client may run it, and what keys begin with that it may use;
        None: all and any. handling: the handler of each kind, for `client`; which are judged; whether one may run; what
        answers when one raises; what writes down what one emitted, and returns its size.
        """
