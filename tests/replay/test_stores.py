"""What every store promises: whole objects or none, never changed; and what each says when it cannot."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from eventdb.backends import LogError, open_log
from eventdb.history.view import View
from eventdb.replay import making, object_store, snapshots
from eventdb.replay.directory_store import DirectoryStore
from eventdb.replay.stores import (
    AlreadyThere,
    BadStoreURL,
    NotThere,
    SnapshotStore,
    StoreError,
    StoreFull,
    StoreUnavailable,
    open_store,
)
from tests.kit.machines import Scribe
from tests.kit.moto_s3 import Buckets, running_s3

LARGE = object_store.PART_BYTES


class InterruptedHereError(LogError):
    pass


@pytest.fixture(scope="module")
def buckets() -> Iterator[Buckets]:
    with running_s3() as found:
        yield found


@pytest.fixture(params=["directory", "s3", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SnapshotStore:
    if request.param == "directory":
        return open_store(str(tmp_path / "not" / "made" / "yet"))
    if request.param == "s3":
        return open_store(request.getfixturevalue("buckets").new())
    pytest.importorskip("fsspec")
    return open_store(f"local:{tmp_path / 'by-fsspec'}")


async def content(store: SnapshotStore, name: str) -> bytes:
    return b"".join([chunk async for chunk in store.get(name)])


async def broken(size: int) -> AsyncIterator[bytes]:
    yield bytes(size)
    yield bytes(size)
    raise InterruptedHereError("the source went away")


async def test_an_object_is_as_it_was_put(store: SnapshotStore) -> None:
    assert await store.names() == []
    await store.put("b.json", [b"one", b"", b" two"])
    await store.put("a.rdb.zst", [b"x" * (1 << 20)] * 3)
    await store.put("empty", [])
    assert await store.names() == ["a.rdb.zst", "b.json", "empty"]
    assert await content(store, "b.json") == b"one two"
    assert await content(store, "a.rdb.zst") == b"x" * (3 << 20)
    assert await content(store, "empty") == b""
    await store.delete("b.json")
    await store.delete("b.json")
    assert await store.names() == ["a.rdb.zst", "empty"]
    await store.close()


@pytest.mark.parametrize("size", [3, LARGE + 1])
async def test_nothing_is_ever_overwritten(store: SnapshotStore, size: int) -> None:
    await store.put("k", [bytes(size)])
    for chunks in ([b"other"], [b"y" * (LARGE + 5)], [bytes(size)]):
        with pytest.raises(AlreadyThere, match="k exists in"):
            await store.put("k", chunks)
    assert await content(store, "k") == bytes(size)
    assert await store.names() == ["k"]


@pytest.mark.parametrize("size", [3, LARGE + 1])
async def test_what_is_interrupted_leaves_nothing(store: SnapshotStore, size: int) -> None:
    with pytest.raises(InterruptedHereError):
        await store.put("k", broken(size))
    assert await store.names() == []
    with pytest.raises(NotThere, match="there is no k in"):
        await content(store, "k")
    await store.put("k", [b"again"])
    assert await content(store, "k") == b"again"


async def test_a_name_stays_inside(store: SnapshotStore) -> None:
    for name in ("", ".hidden", "../up", "a/b", "-", "a b", "é", "x" * 300):
        with pytest.raises(StoreError, match="is no name for an object"):
            await store.put(name, [b"x"])
    assert await store.names() == []


async def test_two_at_once_and_one_of_them_wins(tmp_path: Path) -> None:
    first, second = open_store(str(tmp_path)), open_store(f"file:{tmp_path}")

    async def slow() -> AsyncIterator[bytes]:
        yield b"slow"
        await second.put("k", [b"fast"])
        yield b"er"

    with pytest.raises(AlreadyThere):
        await first.put("k", slow())
    assert await content(first, "k") == b"fast"
    assert os.listdir(tmp_path) == ["k"]


async def test_a_directory_shows_no_part_and_removes_old_ones(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    seen: list[list[str]] = []

    async def looking() -> AsyncIterator[bytes]:
        yield b"half"
        seen.append(await store.names())
        assert len(os.listdir(tmp_path)) == 1
        yield b"whole"

    await store.put("k", looking())
    assert seen == [[]]
    (tmp_path / ".k.0011.part").write_bytes(b"of a process that was killed")
    assert await store.tidy() == 0 and await store.tidy(-1) == 1
    assert os.listdir(tmp_path) == ["k"]


async def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(str(tmp_path))

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull, match=r"No space left on device\. Nothing half-written was left"):
        await store.put("k", [b"x"])
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


async def test_a_path_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = open_store(str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"cannot be written|exists"):
        await store.put("k", [b"x"])
    with pytest.raises(StoreError, match="it cannot be listed: Not a directory"):
        await store.names()


async def test_s3_says_what_is_wrong(buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("s3://no-such-bucket/db")
    for work in (lambda: store.put("k", [b"x"]), lambda: store.put("k", [bytes(LARGE)]), store.names):
        with pytest.raises(StoreError, match=r"no-such-bucket/db: .*: there is no such bucket"):
            await work()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(object_store, "RETRIES", 0)
    away = open_store("s3://bucket/db")
    calls: list[Callable[[], object]] = [lambda: away.put("k", [b"x"]), away.names, lambda: content(away, "k")]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="Look at its address") as caught:
            await call()  # type: ignore[misc]
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_urls_that_are_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadStoreURL, match="has no name"):
        open_store("")
    with pytest.raises(BadStoreURL, match=r"'s3://me:\*\*\*@bucket/x': credentials come from the environment"):
        open_store("s3://me:secret@bucket/x")
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(BadStoreURL, match=r"pip install 'eventdb\[s3\]'"):
        open_store("s3://bucket")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(BadStoreURL, match="the package fsspec and its file system for sftp are needed"):
        open_store("sftp://host/path")


async def test_no_password_of_a_url_is_shown_and_what_does_not_open_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    core = pytest.importorskip("fsspec.core")

    def opened(url: str) -> None:
        raise IsADirectoryError(f"cannot log in at {url}")

    with monkeypatch.context() as patch:
        patch.setattr(core, "url_to_fs", opened)
        with pytest.raises(BadStoreURL) as caught:
            open_store("sftp://me:secret@host/path")
    assert str(caught.value) == (
        "'sftp://me:***@host/path' cannot be opened as a store: cannot log in at sftp://me:***@host/path"
    )
    store = open_store("memory://me:secret@host/none")
    with pytest.raises(NotThere, match=r"in memory://me:\*\*\*@host/none$"):
        await content(store, "x")


async def test_a_snapshot_goes_to_s3_and_comes_back(buckets: Buckets, tmp_path: Path) -> None:
    log = open_log("memory:")
    scribe = await Scribe.claim(log)
    await scribe.write([[b"t", [b"SET", b"k%d" % n, os.urandom(300_000)]] for n in range(40)])
    far, near = open_store(buckets.new()), open_store(str(tmp_path / "near"))
    made = await making.create(log, far, View)
    assert made.stored_bytes > LARGE  # in parts
    assert await snapshots.listed(far) == [made]
    assert (await snapshots.copy(far, near)).copied == [made]
    await snapshots.verify(near, made, View)
    await snapshots.delete(far, made.name)
    assert await far.names() == []
