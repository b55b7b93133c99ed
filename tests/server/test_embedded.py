"""eventdb inside a program: a call gets its own reply, whatever is cancelled, subscribed, reset, closed or forked."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import eventdb
from eventdb.embedded import Database, SyncDatabase

SILENCED = "inside a program every call returns a reply"


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with eventdb.open("memory:") as opened:
        yield opened


@pytest.fixture
def sync_db() -> Iterator[SyncDatabase]:
    with eventdb.open_sync("memory:") as opened:
        yield opened


async def begun(*calls: Any) -> list[asyncio.Task[Any]]:
    """These calls as tasks, each given to its session."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- what is cancelled


@pytest.mark.parametrize(
    "command",
    [("BLPOP", "l", 0), ("BLMOVE", "l", "m", "LEFT", "LEFT", 0), ("EVENTDB.WAITFOR", 1000, 0), ("BZPOPMIN", "z", 0)],
)
async def test_a_cancelled_blocking_call_takes_nothing_and_its_session_goes_on(
    db: Database, command: tuple[str | int, ...]
) -> None:
    worker = db.session()
    (waiting,) = await begun(worker.execute(*command))
    (behind,) = await begun(worker.execute("PING"))
    await cancel(waiting)
    assert await asyncio.wait_for(behind, 5) in ("PONG", b"PONG")
    await db.execute("RPUSH", "l", "job")
    await db.execute("ZADD", "z", 1, "job")
    assert await worker.execute("LRANGE", "l", 0, -1) == [b"job"]
    assert await worker.execute("ZCARD", "z") == 1
    assert await worker.execute("LLEN", "m") == 0


async def test_a_call_cancelled_behind_a_blocked_one_is_not_run(db: Database) -> None:
    worker = db.session()
    blocked, queued, last = await begun(
        worker.execute("BLPOP", "l", 0), worker.execute("INCR", "n"), worker.execute("GET", "n")
    )
    await cancel(queued)
    await db.execute("RPUSH", "l", "job")
    assert await blocked == [b"l", b"job"]
    assert await last is None


async def test_a_call_cancelled_in_a_pause_is_not_run(db: Database) -> None:
    worker = db.session()
    await db.execute("CLIENT", "PAUSE", 100_000, "WRITE")
    (stalled,) = await begun(worker.execute("SET", "k", "v"))
    await cancel(stalled)
    assert await worker.execute("GET", "k") is None
    await db.execute("CLIENT", "UNPAUSE")
    assert await worker.execute("GET", "k") is None


async def test_replies_stay_with_their_calls_when_any_of_them_are_cancelled(db: Database) -> None:
    calls = await begun(*(db.execute("INCR", "n") for _ in range(20)))
    for task in calls[::3]:
        task.cancel()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [reply for reply in found if isinstance(reply, int)] == [n + 1 for n in range(20) if n % 3]


async def test_an_interrupted_thread_takes_nothing(sync_db: SyncDatabase) -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    def when_it_waits() -> None:
        while b"cmd=blpop" not in sync_db.execute("CLIENT", "LIST"):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        thread = threading.Thread(target=when_it_waits)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            sync_db.execute("BLPOP", "l", 0)
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sync_db.execute("RPUSH", "l", "job") == 1
    assert sync_db.execute("LLEN", "l") == 1


# -- what changes how a connection is answered


async def test_a_session_always_replies_and_in_the_types_of_resp3(db: Database) -> None:
    for mode in ("OFF", "SKIP"):
        with pytest.raises(eventdb.ReplyError, match=SILENCED):
            await db.execute("CLIENT", "REPLY", mode)
    assert await db.execute("CLIENT", "REPLY", "ON") in (b"OK", "OK")
    with pytest.raises(eventdb.ReplyError, match="NOPROTO"):
        await db.execute("HELLO", 2)
    assert (await db.execute("HELLO", 3))[b"proto"] == 3
    for command in (("EVENTDB.ANNOUNCE", "{}"), ("EVENTDB.PUBLISH", "MESSAGE", "c", "m")):
        with pytest.raises(eventdb.ReplyError):
            await asyncio.wait_for(db.execute(*command), 5)
    assert await db.execute("ECHO", "x") == b"x"


async def test_after_reset_a_session_is_as_it_began() -> None:
    async with eventdb.open("memory:", requirepass="secret", timeout="1") as db:
        session = db.session()
        await session.execute("SELECT", 3)
        await session.execute("SUBSCRIBE", "c")
        await session.execute("RESET")
        await session.execute("HSET", "h", "f", "v")
        assert await session.execute("HGETALL", "h") == {b"f": b"v"}
        assert await db.execute("HGETALL", "h") == {b"f": b"v"}, "database 0, and no password is asked for"
        await session.execute("SUBSCRIBE", "d")
        assert await db.execute("PUBLISH", "d", "m") == 1
        found = session.messages()
        assert [await anext(found) for _ in range(3)] == [
            [b"subscribe", b"c", 1], [b"subscribe", b"d", 1], [b"message", b"d", b"m"],
        ]  # fmt: skip


async def test_subscriptions_and_replies_do_not_shift_each_other(db: Database) -> None:
    session = db.session()
    for wrong in (("SUBSCRIBE",), ("PSUBSCRIBE",), ("SSUBSCRIBE",)):
        with pytest.raises(eventdb.ReplyError, match="wrong number of arguments"):
            await asyncio.wait_for(session.execute(*wrong), 5)
    calls = await begun(
        session.execute("SUBSCRIBE", "a", "b", "a"), session.execute("ECHO", 1),
        session.execute("PSUBSCRIBE", "p*"), session.execute("UNSUBSCRIBE"), session.execute("ECHO", 2),
        session.execute("UNSUBSCRIBE"), session.execute("SSUBSCRIBE"), session.execute("SSUBSCRIBE", "s"),
        session.execute("SUNSUBSCRIBE"), session.execute("PUNSUBSCRIBE", "x", "p*"), session.execute("ECHO", 3),
    )  # fmt: skip
    found = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
    assert isinstance(found[6], eventdb.ReplyError)
    assert found[:6] + found[7:] == [None, b"1", None, None, b"2", None, None, None, None, b"3"]


async def test_subscriptions_inside_multi_spoil_it_and_nothing_else(db: Database) -> None:
    session = db.session()
    await session.execute("MULTI")
    with pytest.raises(eventdb.ReplyError, match="SUBSCRIBE is not allowed inside a transaction"):
        await session.execute("SUBSCRIBE", "c", "d")
    with pytest.raises(eventdb.ReplyError, match="EXECABORT"):
        await session.execute("EXEC")
    assert await session.execute("ECHO", "x") == b"x"


async def test_a_subscriber_that_reads_no_message_is_closed_in_bounded_memory() -> None:
    async with eventdb.open("memory:") as db:
        await db.execute("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
        lazy, reader = db.session(), db.session()
        for session in (lazy, reader):
            await session.execute("SUBSCRIBE", "c")
        found = reader.messages()
        assert await anext(found) == [b"subscribe", b"c", 1]
        for _ in range(30):
            await db.execute("PUBLISH", "c", b"x" * 100_000)
            assert (await anext(found))[2] == b"x" * 100_000
        with pytest.raises(eventdb.Closed, match="left more messages unread"):
            await lazy.execute("PING")
        assert await db.execute("PUBLISH", "c", "m") == 1
        assert len([message async for message in lazy.messages()]) == 11


# -- threads


def together(count: int, work: Callable[[int], None]) -> list[BaseException]:
    failures: list[BaseException] = []

    def run(n: int) -> None:
        try:
            work(n)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return failures


def test_every_thread_has_its_own_multi_and_database(sync_db: SyncDatabase) -> None:
    def work(n: int) -> None:
        sync_db.execute("SELECT", n)
        for i in range(25):
            sync_db.execute("MULTI")
            sync_db.execute("SET", "mine", n)
            sync_db.execute("INCR", "count")
            sync_db.execute("GET", "mine")
            assert sync_db.execute("EXEC")[1:] == [i + 1, b"%d" % n]

    assert together(8, work) == []
    assert sync_db.execute("EXISTS", "mine") == 1, "this thread is in database 0, as one of the others"
    while len(sync_db.execute("CLIENT", "LIST").splitlines()) > 2:  # the sessions of threads that are gone end
        time.sleep(0.001)


def test_a_session_of_its_own_without_asyncio(sync_db: SyncDatabase) -> None:
    with sync_db.session() as session:
        session.execute("SELECT", 5)
        session.execute("SET", "k", "v")
        assert sync_db.execute("GET", "k") is None
        session.execute("SUBSCRIBE", "c")
        sync_db.execute("PUBLISH", "c", "m")
        found = session.messages()
        assert [next(found), next(found)] == [[b"subscribe", b"c", 1], [b"message", b"c", b"m"]]
        assert list(session.messages(timeout=0.01)) == []
    with pytest.raises(eventdb.Closed, match="this eventdb session is closed"):
        session.execute("PING")


async def test_another_loop_is_named(db: Database) -> None:
    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            asyncio.run(db.execute("PING"))

    await asyncio.to_thread(elsewhere)


# -- after the end


async def test_what_waits_at_the_close_and_what_comes_later_raises_closed() -> None:
    db = await eventdb.open("memory:")
    session = db.session()
    waiting = await begun(session.execute("BLPOP", "l", 0), session.execute("GET", "k"), db.execute("BLPOP", "m", 0))
    await db.aclose()
    for found in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(found, eventdb.Closed) and str(found) == "this eventdb database is closed"
    for call in (db.execute("PING"), session.execute("PING")):
        with pytest.raises(eventdb.Closed, match="this eventdb database is closed"):
            await call
    with pytest.raises(eventdb.Closed):
        db.session()
    assert [message async for message in session.messages()] == []
    await db.aclose()


async def test_a_write_that_is_on_its_way_when_its_session_closes_stays(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    session = db.session()
    (writing,) = await begun(session.execute("SET", "k", "v"))
    session.close()
    with pytest.raises(eventdb.Closed, match="session is closed"):
        await writing
    assert await db.execute("GET", "k") == b"v"
    assert await db.execute("SET", "k", "w") in (b"OK", "OK"), "the reply that nobody takes holds nothing up"
    assert not caplog.records


async def test_a_killed_session_raises_closed(db: Database) -> None:
    session = db.session()
    (waiting,) = await begun(session.execute("BLPOP", "l", 0))
    id_ = (await db.execute("CLIENT", "LIST")).split(b"id=")[2].split(b" ")[0]
    assert await db.execute("CLIENT", "KILL", "ID", id_) == 1
    with pytest.raises(eventdb.Closed, match="session is closed"):
        await waiting


def test_close_with_threads_that_wait() -> None:
    db = eventdb.open_sync("memory:")
    watching = db.session()
    failures: list[BaseException] = []
    waiter = threading.Thread(target=lambda: failures.extend(together(4, lambda n: db.execute("BLPOP", "l", 0))))
    waiter.start()
    while watching.execute("CLIENT", "LIST").count(b"cmd=blpop") < 4:
        time.sleep(0.001)
    db.close()
    waiter.join(30)
    assert [type(failure) for failure in failures] == [eventdb.Closed] * 4
    for late in (lambda: db.execute("PING"), lambda: watching.execute("PING"), db.session):
        with pytest.raises(eventdb.Closed, match="this eventdb database is closed"):
            late()
    db.close()


# -- forks


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_told_and_its_parent_goes_on(sync_db: SyncDatabase) -> None:
    sync_db.execute("SET", "k", "v")
    session = sync_db.session()
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told: list[bytes] = []
            for call in (lambda: sync_db.execute("GET", "k"), lambda: session.execute("GET", "k"), sync_db.session):
                try:
                    call()
                except eventdb.Closed as failure:
                    told.append(str(failure).encode())
            session.close()
            sync_db.close()
            os.write(send, b"\n".join(told))
        finally:
            os._exit(0)
    os.close(send)
    ready, _, _ = select.select([receive], [], [], 20)
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = os.read(receive, 10_000).splitlines()
    os.close(receive)
    assert len(told) == 3 and all(b"belongs to the process that this one was forked from" in text for text in told)
    assert sync_db.execute("GET", "k") == session.execute("GET", "k") == b"v"


def test_all_errors_of_the_api_are_exported() -> None:
    for name in eventdb.__all__:
        assert getattr(eventdb, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        eventdb.nothing  # noqa: B018
    with pytest.raises(eventdb.BadLogURL):
        eventdb.open_sync("nosuch:/a")
